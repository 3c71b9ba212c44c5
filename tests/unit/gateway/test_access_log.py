"""gateway.access_log: files that do not grow for ever, and addresses without their last part."""

import asyncio
from pathlib import Path

import pytest

from gateway.access_log import AccessLog, Line, RotatingFile, access_log, network_of
from tests.fixtures._served_protocol import until


def line(trace: str) -> Line:
    return Line(
        at="",
        part="",
        service="trading",
        method="GET",
        route="/v1/x",
        status=200,
        ms=1.5,
        bytes=0,
        user="",
        role="",
        network="",
        trace=trace,
    )


def test_lines_of_one_turn_are_written_together() -> None:
    written: list[bytes] = []

    async def tell() -> None:
        log = AccessLog(written.append, now=lambda: 0.0)
        for trace in "ab":
            log.tell(line(trace))
        await until(lambda: len(written) == 1)
        log.tell(line("c"))
        await until(lambda: len(written) == 2)

    asyncio.run(tell())
    assert [lines.count(b"\n") for lines in written] == [2, 1]


def test_a_file_keeps_the_newest_lines(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    for _ in range(2):
        file = RotatingFile(path, bytes_max=100)
        for number in range(10):
            file.write(b"%029d\n" % number)
    kept = path.with_name("access.log.1").read_bytes() + path.read_bytes()
    assert [int(line) for line in kept.splitlines()][-4:] == [6, 7, 8, 9]
    assert path.stat().st_size <= 100
    assert {each.name for each in tmp_path.iterdir()} == {"access.log", "access.log.1"}


def test_where_it_goes(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async def tell(target: str) -> None:
        log = access_log(target, now=lambda: 0.0)
        assert log is not None
        log.tell(line("abc"))
        await until(lambda: not log._lines)

    assert access_log("", now=lambda: 0.0) is None
    asyncio.run(tell(str(tmp_path / "a.log")))
    assert b'"trace":"abc"' in (tmp_path / "a.log").read_bytes()
    asyncio.run(tell("-"))
    assert capfdbinary.readouterr().err == (tmp_path / "a.log").read_bytes()


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("testclient", ""),
        ("", ""),
    ],
)
def test_an_address_is_told_without_its_last_part(address: str, network: str) -> None:
    assert network_of(address) == network
