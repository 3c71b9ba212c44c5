"""ops.notify: the datagrams of sd_notify, and silence when nobody listens."""

import socket
from pathlib import Path

from ops.notify import Notifier


def test_ready_and_status_arrive_as_systemd_expects_them(tmp_path: Path) -> None:
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(5)
        notifier = Notifier(address)
        notifier.ready("folded\n812 events")
        notifier.status("813")
        notifier.stopping()
        received = [listener.recv(1024) for _ in range(3)]
    assert received == [b"READY=1\nSTATUS=folded 812 events", b"STATUS=813", b"STOPPING=1"]


def test_without_a_listener_nothing_happens(tmp_path: Path) -> None:
    for address in ("", str(tmp_path / "nobody"), "@durian-nobody"):
        Notifier(address).ready()
