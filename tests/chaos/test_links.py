"""The link between tests and PostgreSQL loses what it says it loses, and nothing else."""

import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg.pq import ExecStatus

from tests.fixtures._link_proxy import Link, Loss, link
from tests.fixtures._member import wait_for
from tests.fixtures.projection_servers import free_ports

pytestmark = pytest.mark.services

ROW = b"x" * 1_000
DELAY_S = 0.1


@pytest.fixture
def way(empty_database: str) -> Iterator[tuple[str, Link]]:
    """The database's URL by way of a link, with an empty table t in it."""
    with psycopg.connect(empty_database) as connection:
        connection.execute("CREATE TABLE t (a text)")
    parts = urlsplit(empty_database)
    assert parts.port is not None
    (port,) = free_ports(1)
    place = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"
    with link(parts.port, port) as made:
        yield urlunsplit(parts._replace(netloc=place)), made


def stored(database: str) -> int:
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT count(*) FROM t").fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize(
    ("loss", "rows"),
    [(Loss.REQUEST, 0), (Loss.HALF_REQUEST, 0), (Loss.ANSWER, 1), (Loss.NOTHING, 1)],
)
def test_robbed_append_breaks_and_is_stored_only_if_all_of_it_passed(
    way: tuple[str, Link], empty_database: str, loss: Loss, rows: int
) -> None:
    url, made = way
    with psycopg.connect(url, autocommit=True) as connection:
        connection.pgconn.prepare(b"append_100", b"INSERT INTO t VALUES ($1)")
        robbed = made.rob_next_append(loss)
        connection.execute("SELECT 1")
        assert not robbed.is_set()
        answer = connection.pgconn.exec_prepared(b"append_100", [ROW], [1])
        assert answer.status == ExecStatus.FATAL_ERROR
        assert robbed.is_set()
    wait_for(lambda: stored(empty_database) == rows, lambda: f"{stored(empty_database)} rows")


def test_frozen_link_holds_bytes_back_and_delivers_them_late(way: tuple[str, Link]) -> None:
    url, made = way
    answers: list[object] = []
    with psycopg.connect(url, autocommit=True) as connection:
        made.freeze()
        asking = threading.Thread(target=lambda: answers.append(connection.execute("SELECT 1")))
        asking.start()
        asking.join(DELAY_S)
        assert asking.is_alive()
        made.thaw()
        asking.join()
    assert len(answers) == 1


def test_slow_link_delays_both_directions(way: tuple[str, Link]) -> None:
    url, made = way
    with psycopg.connect(url, autocommit=True) as connection:
        made.slow(DELAY_S)
        began = time.monotonic()
        connection.execute("SELECT 1")
        assert time.monotonic() - began >= 2 * DELAY_S


def test_cut_breaks_connections_and_lets_new_ones_through(way: tuple[str, Link]) -> None:
    url, made = way
    with psycopg.connect(url, autocommit=True) as connection:
        made.cut()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    psycopg.connect(url).close()
