"""What is read from the kernel: a process's CPU and memory, a connection's segments and bytes."""

import os
import resource
import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from ops.bench.engine_servers import process_cpu_seconds

NS = 1_000_000_000
# An IPv4 and a TCP header without options; the timestamp option adds twelve bytes to each segment.
HEADER_BYTES, TIMESTAMP_BYTES = 40, 12
_INFO_BYTES = 216
_OPTIONS_AT, _HAS_TIMESTAMPS = 5, 1
# Offsets in struct tcp_info, linux/tcp.h.
_RECEIVED_AT, _SEGMENTS_OUT_AT, _SEGMENTS_IN_AT, _SENT_AT = 128, 136, 140, 200


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Of connections so far, from the client's side: bytes of payload, and segments of any kind."""

    down_payload: int = 0
    down_segments: int = 0
    up_payload: int = 0
    up_segments: int = 0
    header_bytes: int = HEADER_BYTES

    @property
    def down_bytes(self) -> int:
        """With the headers of IP and TCP."""
        return self.down_payload + self.header_bytes * self.down_segments

    @property
    def up_bytes(self) -> int:
        return self.up_payload + self.header_bytes * self.up_segments

    def since(self, before: "Traffic") -> "Traffic":
        return Traffic(
            down_payload=self.down_payload - before.down_payload,
            down_segments=self.down_segments - before.down_segments,
            up_payload=self.up_payload - before.up_payload,
            up_segments=self.up_segments - before.up_segments,
            header_bytes=self.header_bytes,
        )


def traffic_of(connections: Iterable[socket.socket]) -> Traffic:
    """Of all together, as the kernel has counted real segments, acknowledgements too."""
    received = sent = segments_in = segments_out = 0
    header_bytes = HEADER_BYTES
    for connection in connections:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        if told[_OPTIONS_AT] & _HAS_TIMESTAMPS:
            header_bytes = HEADER_BYTES + TIMESTAMP_BYTES
        received += struct.unpack_from("=Q", told, _RECEIVED_AT)[0]
        segments_out += struct.unpack_from("=I", told, _SEGMENTS_OUT_AT)[0]
        segments_in += struct.unpack_from("=I", told, _SEGMENTS_IN_AT)[0]
        sent += struct.unpack_from("=Q", told, _SENT_AT)[0]
    return Traffic(
        down_payload=received,
        down_segments=segments_in,
        up_payload=sent,
        up_segments=segments_out,
        header_bytes=header_bytes,
    )


def cpu_seconds(process_ids: Sequence[int]) -> float:
    """User and system time of all threads so far, to the microsecond where the kernel tells it."""
    return sum(_cpu_ns(pid) for pid in process_ids) / NS


def _cpu_ns(process_id: int) -> int:
    try:
        threads = Path(f"/proc/{process_id}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads)
    except (OSError, IndexError):
        return int(process_cpu_seconds(process_id) * NS)


def core_busy_seconds(core: int | None) -> float:
    """Since the system's start, of all processes; 0 for None."""
    if core is None:
        return 0
    lines = Path("/proc/stat").read_text().splitlines()
    fields = next(line.split()[1:] for line in lines if line.startswith(f"cpu{core} "))
    # user, nice, system; idle and waiting; interrupts of two kinds, and what the host took
    busy = [int(ticks) for at, ticks in enumerate(fields[:8]) if at not in (3, 4)]
    return sum(busy) / os.sysconf("SC_CLK_TCK")


def resident_bytes(process_ids: Sequence[int]) -> int:
    pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in process_ids)
    return sum(map(int, pages)) * resource.getpagesize()


def raise_open_files() -> int:
    """Let this process, and those it starts, open as many files as it may; how many that is."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def cores() -> list[int]:
    """Those that this process may use, or none where the system does not pin."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
