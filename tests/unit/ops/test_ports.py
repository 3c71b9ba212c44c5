"""ops.ports: a taken port is replaced, a chosen one is remembered, two stacks never share one."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ops.config import Ports
from ops.datadir import open_data_dir
from ops.ports import PortReservations, choose_ports

HOST = "127.0.0.1"
WANTED = Ports(
    contribution=21020,
    mining=21021,
    trading=21022,
    stream=21025,
    engine=21030,
    postgres=21432,
    redis=21379,
    kafka=21092,
    kafka_controller=21093,
)


@pytest.fixture
def reservations() -> Iterator[PortReservations]:
    with contextlib.closing(PortReservations()) as held:
        yield held


def test_a_taken_port_is_replaced_and_said(tmp_path: Path, reservations: PortReservations) -> None:
    with socket.create_server((HOST, WANTED.trading)):
        choice = choose_ports(WANTED, open_data_dir(tmp_path), reservations, host=HOST)
    assert choice.replaced["trading"] == WANTED.trading
    assert choice.ports.trading not in (WANTED.trading, 0)


def test_chosen_ports_are_remembered_and_differ_from_each_other(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    with socket.create_server((HOST, WANTED.redis)), contextlib.closing(PortReservations()) as held:
        first = choose_ports(WANTED, data_dir, held, host=HOST)
    with contextlib.closing(PortReservations()) as held:
        again = choose_ports(WANTED, data_dir, held, host=HOST)
    assert again == first
    chosen = msgspec.to_builtins(first.ports)
    assert len(set(chosen.values())) == len(chosen)


def test_stacks_that_start_at_once_get_different_ports(
    tmp_path: Path, reservations: PortReservations
) -> None:
    first = choose_ports(WANTED, open_data_dir(tmp_path / "a"), reservations, host=HOST)
    with contextlib.closing(PortReservations()) as others:
        second = choose_ports(WANTED, open_data_dir(tmp_path / "b"), others, host=HOST)
    assert not set(msgspec.structs.astuple(first.ports)) & set(
        msgspec.structs.astuple(second.ports)
    )


def test_ports_of_servers_that_are_not_ours_are_left_alone(
    tmp_path: Path, reservations: PortReservations
) -> None:
    with socket.create_server((HOST, WANTED.redis)):
        choice = choose_ports(
            WANTED, open_data_dir(tmp_path), reservations, host=HOST, unused={"redis"}
        )
    assert "redis" not in choice.replaced
