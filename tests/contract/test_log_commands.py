"""What an operator types about the log: histories and snapshots, from a real database."""

import asyncio
import json

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder
from ops.cli import run
from ops.errors import Exit
from schemas.codecs import encode_event, topic_of
from schemas.events import OrderPlaced, TradeExecuted
from schemas.history import history_keys
from schemas.streams import stream_id
from tests.fixtures.postgres import LedgerDatabase
from tests.unit.domain.scenario import of_kind
from tests.unit.domain.story import story

pytestmark = pytest.mark.services


@pytest.fixture
def ledger(ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch) -> LedgerDatabase:
    """A log, and the environment of a command that reads it."""
    versions: dict[str, int] = {}
    events, history = [], []
    for index, event in enumerate(story().log):
        stream = stream_id(event)
        versions[stream] = versions.get(stream, 0) + 1
        events.append(StoredEvent(stream, versions[stream], topic_of(event), encode_event(event)))
        history += [(key, index) for key in history_keys(event)]
    with datastore_of(ledger_database.writer_url) as datastore:
        recorder = LedgerRecorder(datastore)
        recorder.lead()
        asyncio.run(recorder.append(events, history))
        recorder.close_writer()
    monkeypatch.setenv("DURIAN_POSTGRES_URL", ledger_database.writer_url)
    return ledger_database


@pytest.mark.usefixtures("ledger")
def test_histories_of_a_user_an_order_and_a_trade(capsys: pytest.CaptureFixture[str]) -> None:
    trade = of_kind(story().log, TradeExecuted)[0]
    order = next(o for o in of_kind(story().log, OrderPlaced) if o.order_id == trade.maker_order_id)
    asked = {
        "user": order.user_id,
        "order": str(order.order_id),
        "trade": str(trade.trade_id),
        "stream": f"user:{order.user_id}",
    }
    found = {}
    for kind, name in asked.items():
        assert run(["log", "history", kind, name, "--json"]) == Exit.OK
        found[kind] = json.loads(capsys.readouterr().out)
        positions = [event["position"] for event in found[kind]]
        assert positions == sorted(set(positions))
    assert {"order_placed", "trade_executed"} <= {event["type"] for event in found["user"]}
    assert found["order"][0]["type"] == "order_placed"
    assert found["trade"][0]["type"] == "trade_executed"
    assert all(event in found["user"] for event in [*found["order"], *found["stream"]])


@pytest.mark.usefixtures("ledger")
def test_a_history_in_lines_says_when_there_may_be_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "history", "stream", "mining", "--limit", "2"]) == Exit.OK
    told = capsys.readouterr()
    assert [line.split()[3] for line in told.out.splitlines()] == ["mining_allocated"] * 2
    after = told.err.split("--after ")[1].strip()
    assert run(["log", "history", "stream", "mining", "--after", after, "--limit", "2"]) == Exit.OK
    assert capsys.readouterr().out.splitlines()[0].split()[0] != told.out.split()[0]


@pytest.mark.usefixtures("ledger")
def test_what_nobody_did_is_empty_and_a_bad_number_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["log", "history", "user", "nobody", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == []
    assert run(["log", "history", "order", "seven"]) == Exit.USAGE
    assert "expected a number" in capsys.readouterr().err


def test_a_snapshot_is_kept_checked_and_its_damage_found(
    ledger: LedgerDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    length = len(story().log)
    assert run(["snapshot", "--json"]) == Exit.OK
    kept = json.loads(capsys.readouterr().out)
    assert (kept["position"], kept["from_position"]) == (length, 0)
    assert run(["snapshot", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["from_position"] == length
    assert run(["snapshot", "--check", "--json"]) == Exit.OK
    (checked,) = json.loads(capsys.readouterr().out)
    assert checked == {
        "position": length,
        "equal": True,
        "finding": "equals the fold of the log",
    }
    with psycopg.connect(ledger.owner_url) as connection:
        connection.execute("UPDATE ledger_snapshots SET digest = decode(repeat('00', 32), 'hex')")
    assert run(["snapshot", "--check"]) == Exit.WRONG
    assert "do not match its digest" in capsys.readouterr().out


def test_a_snapshot_that_is_another_state_is_found(
    ledger: LedgerDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["snapshot"]) == Exit.OK
    with psycopg.connect(ledger.owner_url) as connection:
        connection.execute("UPDATE ledger_snapshots SET log_hash = decode(repeat('00', 32), 'hex')")
    capsys.readouterr()
    assert run(["snapshot", "--check", "--json"]) == Exit.WRONG
    (checked,) = json.loads(capsys.readouterr().out)
    assert "hash" in checked["finding"]


@pytest.mark.usefixtures("ledger")
def test_the_version_of_the_schema_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["migrate", "--check", "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert told["present"] == told["expected"]
