"""One line of JSON for each request: who asked what, and what came of it.

No path, query, header or body is in it, only the route's template: so no token, password or code
can be. Lines do not pass through logging, whose formatting would cost more than many an answer.
"""

import asyncio
import functools
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Final

import msgspec

FILE_BYTES_MAX: Final = 64 << 20
STANDARD_ERROR: Final = "-"
ADDRESSES_CACHED_MAX: Final = 10_000
IPV4_PREFIX_BITS: Final = 24
IPV6_PREFIX_BITS: Final = 48

Write = Callable[[bytes], object]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """route: the template, "" if none matched. bytes: of the answer's body. user: "" for nobody.

    network: the caller's address without its last part, which would tell one person from another.
    """

    at: str
    logger: str = "access"
    part: str
    service: str
    method: str
    route: str
    status: int
    ms: float
    bytes: int
    user: str
    role: str
    network: str
    trace: str
    replayed: bool = False


class AccessLog:
    """write: gets whole lines, those of one turn of the loop together. now: Unix seconds."""

    def __init__(self, write: Write, *, now: Callable[[], float], part: str = "") -> None:
        self.part = part
        self._now = now
        self._write = write
        self._lines: list[bytes] = []
        self._encode = msgspec.json.Encoder().encode

    def timestamp(self) -> str:
        """Now, as ISO 8601 in UTC."""
        return datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds")

    def tell(self, line: Line) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
        self._lines.append(self._encode(line))

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        self._write(b"\n".join(lines) + b"\n")


class RotatingFile:
    """A file of at most FILE_BYTES_MAX; what was before is kept as NAME.1, older lines are not."""

    def __init__(self, path: Path, bytes_max: int = FILE_BYTES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._file = self._opened()
        self._bytes = path.stat().st_size

    def write(self, lines: bytes) -> None:
        if self._bytes and self._bytes + len(lines) > self._bytes_max:
            os.close(self._file)
            os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))
            self._file = self._opened()
            self._bytes = 0
        os.write(self._file, lines)
        self._bytes += len(lines)

    def _opened(self) -> int:
        # A descriptor: it lives as long as the process, and nothing is buffered.
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def access_log(target: str, *, now: Callable[[], float], part: str = "") -> AccessLog | None:
    """target: a file's path, "-" for standard error, "" for no log. Raises OSError."""
    if not target:
        return None
    write = _write_standard_error if target == STANDARD_ERROR else RotatingFile(Path(target)).write
    return AccessLog(write, now=now, part=part)


def _write_standard_error(lines: bytes) -> None:
    sys.stderr.buffer.write(lines)
    sys.stderr.flush()


@functools.lru_cache(ADDRESSES_CACHED_MAX)
def network_of(address: str) -> str:
    """The network that an address is in, "" for what is none."""
    bits = IPV6_PREFIX_BITS if ":" in address else IPV4_PREFIX_BITS
    try:
        return str(ip_network(f"{address}/{bits}", strict=False))
    except ValueError:
        return ""
