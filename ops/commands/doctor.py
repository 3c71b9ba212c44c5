"""`durian doctor`: is everything there that `durian up` needs, and if not, what to do about it."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from ops.commands.options import data_option, find_stack, json_option
from ops.config import Config, Ports, load_config, redact_url
from ops.console import print_json
from ops.datadir import DataDir
from ops.errors import Exit, OpsError
from ops.ports import is_free
from ops.servers import kafka, postgres, redis
from ops.status import running_state

FREE_DISK_BYTES_MIN = 2 * 1024**3


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at. is_fine: nothing has to be done about it."""

    name: str
    is_fine: bool
    detail: str


@click.command()
@data_option
@json_option
def command(data: Path | None, *, as_json: bool) -> int:
    """Say what is missing. Exit code 0: `durian up` can start; 3: something is missing."""
    findings = examine(load_config(), find_stack(data).root)
    if as_json:
        print_json(findings)
    for finding in () if as_json else findings:
        mark = "ok     " if finding.is_fine else "MISSING"
        click.echo(f"{mark} {finding.name:<12} {finding.detail}")
    return Exit.OK if all(finding.is_fine for finding in findings) else Exit.DEPENDENCY_DOWN


def examine(config: Config, root: Path) -> list[Finding]:
    """Everything `durian up` needs in this data directory, in the order it needs it."""
    cluster = root / "postgres" / "data"
    return [
        _server("postgres", config.postgres_url, lambda: _describe_postgres(cluster)),
        _server("redis", config.redis_url, redis.find_binary),
        _server("java", config.kafka_url, _describe_java),
        _server("kafka", config.kafka_url, lambda: str(kafka.require_installed(config.cache_dir))),
        _disk(root),
        *_ports(config, root),
    ]


def _server(name: str, url: str, find: Callable[[], str]) -> Finding:
    if url:
        return Finding(name=name, is_fine=True, detail=f"not needed: {redact_url(url)} is used")
    try:
        return Finding(name=name, is_fine=True, detail=find())
    except OpsError as error:
        return Finding(name=name, is_fine=False, detail=str(error))


def _describe_postgres(cluster: Path) -> str:
    found = postgres.find_binaries(cluster)
    return f"{found.major} in {found.directory}"


def _describe_java() -> str:
    java = kafka.require_java()
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "([^"]+)"', answer.stderr)
    return f"{found.group(1) if found else 'unknown version'} in {java}"


def _disk(root: Path) -> Finding:
    existing = next(place for place in (root, *root.parents) if place.exists())
    free_bytes = shutil.disk_usage(existing).free
    detail = f"{free_bytes // 1024**2:,} MiB free in {existing}"
    return Finding(name="disk", is_fine=free_bytes >= FREE_DISK_BYTES_MIN, detail=detail)


def _ports(config: Config, root: Path) -> list[Finding]:
    """Taken ports are no fault: `durian up` replaces them. They are only named."""
    taken = [
        str(port)
        for name in Ports.__struct_fields__
        if not is_free(port := getattr(config.ports, name), config.host)
    ]
    if running_state(DataDir(root)) is not None:
        return [Finding(name="ports", is_fine=True, detail=f"a stack runs in {root}")]
    detail = f"taken, so others will be used: {', '.join(taken)}" if taken else "all free"
    return [Finding(name="ports", is_fine=True, detail=detail)]
