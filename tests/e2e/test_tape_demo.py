"""A tape through the real system (log, Kafka, Faust, Redis, gateway) against pandas and the log.

pandas computes the candles from the tape's text; nothing of our folds is used for what is expected.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from websockets.sync.client import connect

from projections.differences import read_views
from schemas import accrual, events
from tests.fixtures.stacks import (
    REAL_TAPE,
    ROOT,
    TapeStack,
    folded,
    real_tape_slice,
    tape_stack,
    write_synthetic_tape,
)
from tests.model.naive_views import Log, decoded, differences
from tests.model.naive_views_all import RECOMPUTE
from tests.model.view_logs import as_json

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

MARKET = "DUR-CNY"
SECONDS = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "4h": 14400,
    "1d": 86400,
    "1w": 604800,
}
# 1970-01-05, 00:00 UTC: weeks open on Mondays.
FIRST_MONDAY = 4 * 86400
BURN_BPS = 10
# The naive recomputation goes through the whole log for every user and view.
NAIVE_EVENTS_MAX = 200_000


@pytest.fixture(
    scope="module",
    params=["synthetic", "real", pytest.param("full", marks=pytest.mark.slow)],
)
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TapeStack]:
    """The tape replayed, everything up for queries."""
    directory = tmp_path_factory.mktemp(str(request.param))
    tape = directory / "tape.csv"
    if request.param == "synthetic":
        write_synthetic_tape(tape, trades=1_500, seconds=9_000, seed=7)
    elif request.param == "real":
        real_tape_slice(tape, trades=1_200)
    else:
        real_tape_slice(tape, trades=1_000_000)
        assert REAL_TAPE.exists()
    with tape_stack(tape, directory / "ledger") as running:
        running.wait_replayed()
        yield running


def read_tape(path: Path) -> pd.DataFrame:
    """The tape with exact Decimals."""
    tape = pd.read_csv(path, dtype=str)
    tape["second"] = tape.time_ms.astype("int64") // 1_000
    for column in ("price", "quantity"):
        tape[column] = tape[column].map(Decimal)
    tape["quote"] = tape.price * tape.quantity
    nothing = Decimal(0)
    tape["taker_buy"] = tape.quantity.where(tape.taker_side == "buy", nothing)
    tape["taker_buy_quote"] = tape.quote.where(tape.taker_side == "buy", nothing)
    tape["burned"] = tape.quantity.map(burn_of)
    return tape


def burn_of(quantity: Decimal) -> Decimal:
    """Of one trade, rounded down to the asset's smallest unit."""
    return Decimal(int(quantity * 10**8) * BURN_BPS // 10_000).scaleb(-8)


def expected_candles(tape: pd.DataFrame, interval: str) -> list[dict[str, Decimal]]:
    """From the first trade's interval to the last's; empty ones carry the last close."""
    width, start = SECONDS[interval], FIRST_MONDAY if interval == "1w" else 0
    grouped = tape.groupby(((tape.second - start) // width * width + start) * 1_000)
    frame = pd.DataFrame(
        {
            "open": grouped.price.first(),
            "high": grouped.price.max(),
            "low": grouped.price.min(),
            "close": grouped.price.last(),
            "volume": grouped.quantity.sum(),
            "quote_volume": grouped.quote.sum(),
            "trade_count": grouped.size(),
            "taker_buy_volume": grouped.taker_buy.sum(),
            "taker_buy_quote_volume": grouped.taker_buy_quote.sum(),
            "burned": grouped.burned.sum(),
        }
    )
    dense = frame.reindex(range(frame.index[0], frame.index[-1] + 1, width * 1_000))
    dense["close"] = dense.close.ffill()
    for column in ("open", "high", "low"):
        dense[column] = dense[column].fillna(dense.close)
    dense = dense.fillna(0)
    columns = {name: dense[name].map(_exact).tolist() for name in dense.columns}
    columns["open_time"] = [Decimal(int(at)) for at in dense.index]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _exact(amount: Decimal | float) -> Decimal:
    # The counts of empty intervals come out of reindex() as floats; all are whole numbers.
    return amount if isinstance(amount, Decimal) else Decimal(int(amount))


def served_candles(stack: TapeStack, interval: str, start_ms: int) -> list[dict[str, Any]]:
    """Every page from start_ms on."""
    pages: list[dict[str, Any]] = []
    query: dict[str, Any] = {"market": MARKET, "interval": interval, "from": start_ms}
    with httpx.Client(base_url=stack.url("trading")) as client:
        while True:
            page = client.get("/v1/klines", params={**query, "limit": 1_000}).raise_for_status()
            pages += page.json()["items"]
            cursor = page.json()["next_cursor"]
            if cursor is None:
                return pages
            query = {"market": MARKET, "interval": interval, "cursor": cursor}


@pytest.mark.parametrize("interval", SECONDS)
def test_every_candle_equals_pandas_on_the_tape(stack: TapeStack, interval: str) -> None:
    wanted = expected_candles(read_tape(stack.tape), interval)
    served = served_candles(stack, interval, int(wanted[0]["open_time"]))
    got = [{name: Decimal(candle[name]) for name in wanted[0]} for candle in served]
    assert got == wanted
    assert [candle["closed"] for candle in served] == [True] * (len(served) - 1) + [False]


def test_burned_total_is_the_sum_of_the_floors(stack: TapeStack) -> None:
    tape = read_tape(stack.tape)
    wanted = sum(tape.burned)
    first_ms = int(tape.second[0]) // 60 * 60_000
    with httpx.Client(base_url=stack.url("trading")) as client:
        query: dict[str, Any] = {"market": MARKET, "from": first_ms, "limit": 1_000}
        minutes: list[Decimal] = []
        while True:
            page = client.get("/v1/burns", params=query).raise_for_status().json()
            minutes += [Decimal(record["burned"]) for record in page["items"]]
            if page["next_cursor"] is None:
                break
            query = {"market": MARKET, "cursor": page["next_cursor"], "limit": 1_000}
        ticker = client.get("/v1/ticker", params={"market": MARKET}).json()
    assert sum(minutes) == Decimal(page["cumulative"]) == wanted
    assert Decimal(ticker["burned_total"]) == wanted


def test_log_has_one_allocation_for_every_second_and_the_index_is_exact(stack: TapeStack) -> None:
    log = stack.log()
    tape = read_tape(stack.tape)
    seconds = [event.second for event in log if isinstance(event, events.MiningAllocated)]
    assert seconds == list(range(int(tape.second.iloc[0]), int(tape.second.iloc[-1]) + 1))
    state = folded(log)
    mining = state.mining
    assert mining is not None
    scaled = sum(
        (user.settled_minor << accrual.INDEX_BITS)
        + user.entry_fraction
        + user.weight * (mining.index - user.entry_index)
        for user in state.contributions.users.values()
    )
    assert scaled + mining.carry == mining.allocated_minor << accrual.INDEX_BITS
    paid = state.accounts.system["mining:accrued", mining.asset_id]
    assert paid == mining.allocated_minor
    served = httpx.get(stack.url("mining") + "/v1/mining/pool").json()
    assert int(served["index"]) == mining.index
    assert Decimal(served["allocated"]) == Decimal(mining.allocated_minor).scaleb(-8)


def test_views_equal_a_fresh_fold_of_the_log(stack: TapeStack) -> None:
    assert stack.differences(stack.log()) == []


@pytest.mark.parametrize("projection", RECOMPUTE)
def test_views_equal_the_naive_recomputation_of_the_log(stack: TapeStack, projection: str) -> None:
    """Shares no fold code; the demo stands still once its tape is through."""
    log = as_json(stack.log())
    if len(log) > NAIVE_EVENTS_MAX:
        pytest.skip(f"{len(log):,} events are too many to go through again and again")
    stored = asyncio.run(read_views(projection, stack.url("redis")))
    assert differences(RECOMPUTE[projection](Log(log)), decoded(stored)) == []


def test_stream_sends_the_last_pulse_and_the_open_candle(stack: TapeStack) -> None:
    tape = read_tape(stack.tape)
    with connect(stack.url("stream"), subprotocols=["durian.v1.json"]) as socket:  # type: ignore[list-item]
        channels = [{"ch": "pulse"}, {"ch": f"kline.{MARKET}.1m"}]
        socket.send(json.dumps({"op": "subscribe", "id": 1, "channels": channels}))
        snapshots: dict[str, Any] = {}
        while len(snapshots) < len(channels):
            message = json.loads(socket.recv(timeout=20))
            assert message["op"] != "error", message
            if message["op"] == "snapshot":
                snapshots[message["ch"]] = message["data"]
    last_second = tape.second.iloc[-1]
    assert snapshots["pulse"]["second"] == last_second
    # A pulse leaves with its second's tick: with which of the second's trades, batches decide.
    before = tape.price[tape.second < last_second].tail(1)
    within = tape.price[tape.second == last_second]
    assert Decimal(snapshots["pulse"]["prices"][MARKET]) in {*before, *within}
    assert Decimal(snapshots[f"kline.{MARKET}.1m"]["close"]) == tape.price.iloc[-1]


def test_interrupt_leaves_no_process_and_up_continues_where_it_was(tmp_path: Path) -> None:
    tape = write_synthetic_tape(tmp_path / "tape.csv", trades=200, seconds=900, seed=3)
    with tape_stack(tape, tmp_path / "ledger") as stack:
        summary = stack.wait_replayed()
        assert summary["agrees"], summary
        before = stack.log()
        assert stack.interrupt() == 0
        assert stack.processes_left() == []
        directory = str(stack.directory)
        durian("up", "--detach", "--data", directory)
        try:
            log = stack.log()
        finally:
            durian("down", "--data", directory)
    assert log[: len(before)] == before
    assert [type(event) for event in log[len(before) :]] == [events.EpochStarted]
    assert stack.processes_left() == []


def durian(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ops", *arguments], cwd=ROOT, check=True, timeout=120)
