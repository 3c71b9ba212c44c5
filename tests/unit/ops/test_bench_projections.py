"""ops.bench.projections and rebuild: that they measure what they say; never how fast we are."""

from itertools import islice

import pytest

from domain.ledger import evolve
from domain.state import LedgerState
from ops.bench import projection_lag, rebuild_live
from ops.bench import projections as projections_bench
from ops.bench import rebuild as rebuild_bench
from ops.bench.mixed_log import FIRST_USER, LogShape, mixed_log
from ops.bench.order_mix import user_name
from ops.demo.progress import LineTasks
from schemas.events import MiningAllocated, TradeExecuted

SECONDS = 0.2
SHAPE = LogShape(events=1_500, users=10, resting=50)


def test_a_mixed_log_is_a_ledgers() -> None:
    state, log = LedgerState(), list(mixed_log(SHAPE))
    for event in log:
        evolve(state, event)
    seconds = [event.second for event in log if isinstance(event, MiningAllocated)]
    assert seconds == list(range(SHAPE.genesis_second, SHAPE.genesis_second + len(seconds)))
    assert sum(isinstance(event, TradeExecuted) for event in log) > 50
    assert set(state.open_accounts) == {user_name(FIRST_USER + number) for number in range(10)}


def test_a_mixed_log_is_the_same_each_time() -> None:
    assert list(islice(mixed_log(SHAPE), 500)) == list(islice(mixed_log(SHAPE), 500))


@pytest.mark.services
def test_projections_are_measured_beside_plain_loops() -> None:
    sizes = projections_bench.Sizes(
        log=SHAPE, singles=300, lag=projection_lag.Sizes(users=10, resting=50)
    )
    report = projections_bench.run_projections(SECONDS, LineTasks(), sizes)
    named = {row.metric: row for row in report.rows}
    for projection in projections_bench.PROJECTIONS:
        assert named[f"events/s, worker {projection}, packed records"].ours > 0
    references = [row.reference_name for row in report.rows if row.reference_name]
    assert any(name.startswith("aiokafka loop, our folds") for name in references)
    assert any(name.endswith("an event a record") for name in references)
    lags = [row for row in report.rows if row.metric.startswith("ms from answer to view, accounts")]
    assert [row.metric.rpartition(" ")[2] for row in lags] == ["p50", "p99", "p100"]


@pytest.mark.slow
@pytest.mark.services
def test_a_rebuild_is_measured_beside_a_plain_read_and_under_clients() -> None:
    sizes = rebuild_bench.Sizes(log=SHAPE, live=rebuild_live.Sizes(rate=50, seconds=1.0, users=100))
    report = rebuild_bench.run_rebuild(SECONDS, LineTasks(), sizes)
    named = {row.metric: row for row in report.rows}
    for projection in rebuild_bench.PROJECTIONS:
        assert named[f"events/s, {projection}, one process"].reference
    assert named["reads that failed"].ours == 0
    assert named["reads that went back"].ours == 0
    assert named["reads"].ours > 0
