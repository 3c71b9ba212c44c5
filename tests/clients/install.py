"""The npm packages of tests/clients, installed once per lock file into the cache outside the tree.

`python -m tests.clients.install` fills the cache (make setup does); with --check it only says by
its exit code whether it is full. npm checks the lock's hashes; install scripts do not run.
"""

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ops.config import load_config

SOURCES = Path(__file__).parent
MANIFESTS = ("package.json", "package-lock.json")
NODE_MAJOR_MIN = 18


class NoPackages(Exception):
    """Why the packages are not there, for people."""


def installed_packages() -> Path:
    """A directory with node_modules in it; NoPackages if it is not there and cannot be made."""
    directory = _directory()
    if directory.exists():
        return directory
    _check_programs()
    with _alone(directory.parent):
        if not directory.exists():
            _install(directory)
    return directory


def _directory() -> Path:
    content = b"".join((SOURCES / name).read_bytes() for name in MANIFESTS)
    digest = hashlib.sha256(content).hexdigest()[:12]
    return load_config().cache_dir.absolute() / f"foreign-clients-{digest}"


def _check_programs() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NoPackages("node and npm are not installed; run make setup")
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(told.strip().lstrip("v").partition(".")[0]) < NODE_MAJOR_MIN:
        raise NoPackages(f"node {told.strip()} is older than {NODE_MAJOR_MIN}")


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "foreign-clients.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _install(directory: Path) -> None:
    # Made elsewhere and moved: a directory that exists is complete.
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        for name in MANIFESTS:
            shutil.copy(SOURCES / name, made)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=made, capture_output=True, text=True)
        if done.returncode:
            raise NoPackages(f"npm ci failed: {done.stderr.strip()}")
        made.rename(directory)


def main() -> None:
    if "--check" in sys.argv:
        sys.exit(not _directory().exists())
    try:
        sys.stdout.write(f"{installed_packages()}\n")
    except NoPackages as reason:
        sys.exit(str(reason))


if __name__ == "__main__":
    main()
