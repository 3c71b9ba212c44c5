"""Choosing TCP ports for a stack: remembered ones first, then the default, then a free one.

Stacks started at the same moment do not choose the same port: each choice is also reserved by
an abstract unix socket (Linux), which the kernel frees when the supervisor dies.
"""

import errno
import socket
import sys
from collections.abc import Collection

import msgspec

from ops.config import Ports
from ops.datadir import DataDir, write_atomic
from ops.errors import ServerUnavailable

# 3022 -> 13022, 23022: easy to recognise, and below the range kernels take for clients.
REPLACEMENT_STEP = 10_000
REPLACEMENT_PORT_MAX = 32_000
REPLACEMENT_TRIES_MAX = 500


class PortChoice(msgspec.Struct, frozen=True, kw_only=True):
    """replaced: port name -> the default that was taken."""

    ports: Ports
    replaced: dict[str, int]


class PortReservations:
    """Ports that this process promised to its children; keep it open as long as they run."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket | None] = {}

    def take(self, port: int, host: str) -> bool:
        """Reserve the port if nobody listens on it and no other stack reserved it."""
        if port in self._held or not is_free(port, host):
            return False
        if sys.platform != "linux":
            self._held[port] = None
            return True
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            mark.bind(f"\0durian-port-{port}")
        except OSError:
            mark.close()
            return False
        self._held[port] = mark
        return True

    def close(self) -> None:
        for mark in self._held.values():
            if mark is not None:
                mark.close()
        self._held.clear()


def choose_ports(
    wanted: Ports,
    data_dir: DataDir,
    reservations: PortReservations,
    *,
    host: str,
    unused: Collection[str] = (),
) -> PortChoice:
    """Choose every port, remember them in ports.json, say which defaults were replaced.

    unused: names that nothing will listen on, because somebody else's server is used.
    """
    remembered: dict[str, int] = {}
    if data_dir.ports_file.exists():
        remembered = msgspec.json.decode(data_dir.ports_file.read_bytes(), type=dict[str, int])
    chosen: dict[str, int] = {}
    for name in Ports.__struct_fields__:
        default: int = getattr(wanted, name)
        if name in unused:
            chosen[name] = remembered.get(name, default)
            continue
        candidates = [remembered[name], default] if name in remembered else [default]
        chosen[name] = _first_free([*candidates, *_replacements(default)], reservations, host)
    write_atomic(data_dir.ports_file, msgspec.json.format(msgspec.json.encode(chosen)))
    replaced = {
        name: getattr(wanted, name)
        for name in chosen
        if name not in unused and chosen[name] != getattr(wanted, name)
    }
    return PortChoice(ports=msgspec.convert(chosen, Ports), replaced=replaced)


def _replacements(default: int) -> list[int]:
    first = [default + REPLACEMENT_STEP, default + 2 * REPLACEMENT_STEP]
    after = range(first[0] + 1, first[0] + REPLACEMENT_TRIES_MAX)
    return [port for port in (*first, *after) if 1024 < port < REPLACEMENT_PORT_MAX] or list(
        range(20_000, 20_000 + REPLACEMENT_TRIES_MAX)
    )


def _first_free(candidates: list[int], reservations: PortReservations, host: str) -> int:
    for port in candidates:
        if reservations.take(port, host):
            return port
    raise ServerUnavailable(f"no free port among {candidates[0]} and {len(candidates)} others")


def is_free(port: int, host: str) -> bool:
    """Whether somebody could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # A port in TIME_WAIT can be listened on again; only a listener makes it taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True
