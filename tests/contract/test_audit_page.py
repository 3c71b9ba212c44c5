"""docs/audit.md: its SQL runs as the reader on a real log, finds nothing wrong in a sound one and
the place of the damage in a damaged one; the balances it adds up are the domain's.
"""

import asyncio
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from domain.state import LedgerState
from engine.postgres.datastore import datastore_of
from engine.postgres.recorder import LedgerRecorder
from schemas import commands
from schemas.codecs import encode_event, topic_of
from schemas.events import LedgerEvent
from schemas.streams import stream_id
from tests.fixtures.ledger_logs import MARKET, LogBuilder
from tests.fixtures.postgres import LedgerDatabase

pytestmark = pytest.mark.services
PAGE = Path(__file__).parents[2] / "docs/audit.md"
USER, NUMBER = "alice", 40
Row = dict[str, Any]


def _order(user_id: str, number: int, side: Any, price: int | None) -> commands.PlaceOrder:
    return commands.PlaceOrder(
        user_id=user_id,
        client_order_id=f"order-{number}",
        market_id=MARKET,
        side=side,
        order_type="limit" if price else "market",
        price_minor=price,
        quantity_minor=7 * 10**8,
    )


def _ledger() -> tuple[LogBuilder, int]:
    """A log with every kind of posting, and what USER had accrued at second NUMBER."""
    builder = LogBuilder()
    builder.open_users("alice", "bob")
    for user_id, expires in (("alice", builder.second + 30), ("bob", None)):
        builder.accept(
            commands.GrantContribution(
                user_id=user_id, grant_id="g", source="test", weight=3, expires_second=expires
            )
        )
    builder.pass_seconds(20)
    builder.accept(_order("alice", 1, "sell", 120_000_000))
    builder.accept(_order("bob", 2, "buy", 130_000_000))
    resting = builder.accept(_order("bob", 3, "buy", 110_000_000))
    builder.accept(_order("alice", 4, "sell", 150_000_000))
    builder.accept(_order("bob", 5, "buy", None))
    order_id = next(event.order_id for event in resting if hasattr(event, "order_id"))
    builder.accept(commands.CancelOrder(user_id="bob", order_id=order_id))
    builder.pass_seconds(NUMBER - 20)
    pool = builder.state.mining
    assert pool is not None
    accrued_minor = builder.state.contributions.users[USER].accrued_minor(pool.index)
    builder.pass_seconds(10)
    builder.accept(commands.SettleAccrual(user_id="bob"))
    return builder, accrued_minor


def _append(database: LedgerDatabase, log: list[LedgerEvent]) -> None:
    versions: dict[str, int] = {}
    stored = []
    for event in log:
        stream = stream_id(event)
        versions[stream] = versions.get(stream, 0) + 1
        stored.append(StoredEvent(stream, versions[stream], topic_of(event), encode_event(event)))
    with datastore_of(database.writer_url) as datastore:
        recorder = LedgerRecorder(datastore)
        recorder.lead()
        asyncio.run(recorder.append(stored))
        recorder.close_writer()


def _answers(url: str) -> list[Row]:
    """Every row that the page's statements return, in their order."""
    text = "\n".join(re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    text = re.sub(r"^\\set .*$", "", text, flags=re.MULTILINE)
    text = text.replace(":'user'", f"'{USER}'").replace("= :number", f"= {NUMBER}")
    rows: list[Row] = []
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        for statement in filter(str.strip, text.split(";\n")):
            cursor = connection.execute(statement.encode())
            rows += cursor.fetchall() if cursor.description else []
    return rows


def _one(rows: list[Row], column: str) -> Any:
    return next(row[column] for row in rows if column in row)


def _balances(state: LedgerState) -> dict[tuple[str, str], int]:
    found = {(asset, account): amount for (account, asset), amount in state.accounts.system.items()}
    for user_id, assets in state.accounts.users.items():
        for asset, balance in assets.items():
            found[asset, f"user:{user_id}:available"] = balance.available_minor
            found[asset, f"user:{user_id}:held"] = balance.held_minor
    return {place: amount for place, amount in found.items() if amount}


def test_sound_log_passes_every_query_and_adds_up_to_the_domains_balances(
    ledger_database: LedgerDatabase,
) -> None:
    builder, accrued_minor = _ledger()
    _append(ledger_database, builder.log)
    rows = _answers(ledger_database.reader_url)
    wrong = ("broken", "misplaced", "missing", "out_of_place", "strangers", "index_wrong")
    assert {name: _one(rows, name) for name in wrong} == dict.fromkeys(wrong, 0)
    assert [_one(rows, name) for name in ("total_wrong", "unbalanced", "overdrawn")] == [0, 0, 0]
    assert _one(rows, "head_agrees") is True
    assert _one(rows, "events") == len(builder.log)
    assert _one(rows, "seconds") == 50
    assert _one(rows, "burned_minor") == _one(rows, "stated_minor") > 0
    assert _one(rows, "accrued_minor") == accrued_minor > 0
    added_up = {
        (row["asset"], row["account"]): int(row["balance_minor"])
        for row in rows
        if row.get("balance_minor")
    }
    assert added_up == _balances(builder.state)


def test_changed_payload_is_found_at_its_position(ledger_database: LedgerDatabase) -> None:
    _append(ledger_database, _ledger()[0].log)
    with psycopg.connect(ledger_database.owner_url) as connection:
        connection.execute("ALTER TABLE ledger_events DISABLE TRIGGER append_only")
        connection.execute(
            "UPDATE ledger_events SET state = state || ' '::bytea WHERE notification_id = 17"
        )
    rows = _answers(ledger_database.reader_url)
    assert (_one(rows, "broken"), _one(rows, "first_broken")) == (1, 17)
