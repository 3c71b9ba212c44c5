"""What a worker's figures say after what happened to it."""

from prometheus_client import generate_latest

from projections.metrics import ProjectionMetrics
from projections.partition import Committed
from projections.ports import Checkpoint, Held, Moved, Overtaken

SECOND_NS = 1_000_000_000


def _figures(metrics: ProjectionMetrics) -> dict[str, float]:
    """By name and labels without the projection."""
    lines = generate_latest(metrics.registry).decode().splitlines()
    words = [line.rsplit(" ", 1) for line in lines if line.startswith("durian_projection_")]
    return {
        name.removeprefix("durian_projection_").replace('projection="mining"', ""): float(figure)
        for name, figure in words
        if "_created" not in name
    }


def _metrics() -> ProjectionMetrics:
    return ProjectionMetrics("mining", now_ns=lambda: 50 * SECOND_NS)


def test_committed_batch_is_counted() -> None:
    metrics = _metrics()
    metrics.committed(
        0,
        Committed(
            checkpoint=Checkpoint(position=77),
            records=3,
            events=40,
            at_ns=48 * SECOND_NS,
            seconds=0.004,
        ),
    )
    figures = _figures(metrics)
    assert figures["events_total{}"] == 40
    assert figures["batches_total{}"] == 1
    assert figures["batch_events_sum{}"] == 40
    assert figures["batch_records_sum{}"] == 3
    assert figures["commit_seconds_sum{}"] == 0.004
    assert figures["delay_seconds_sum{}"] == 2
    assert figures['position{partition="0",}'] == 77


def test_batch_without_events_has_no_delay_and_clocks_may_disagree() -> None:
    metrics = _metrics()
    for at_ns in (0, 51 * SECOND_NS):
        metrics.committed(
            0, Committed(checkpoint=Checkpoint(), records=1, events=0, at_ns=at_ns, seconds=0.0)
        )
    figures = _figures(metrics)
    assert figures["delay_seconds_count{}"] == 1
    assert figures["delay_seconds_sum{}"] == 0


def test_refusals_are_told_apart() -> None:
    metrics = _metrics()
    for refused in (Held(), Held(), Moved("2"), Overtaken(Checkpoint())):
        metrics.refused(0, refused)
    figures = _figures(metrics)
    names = ("held_total{}", "moved_total{}", "overtaken_total{}")
    assert [figures[name] for name in names] == [2, 1, 1]


def test_only_assigned_partitions_are_shown() -> None:
    metrics = _metrics()
    metrics.assigned([0, 1])
    metrics.reached(0, 5)
    metrics.lagging(1, 9)
    metrics.stopped(1)
    figures = _figures(metrics)
    assert figures['stopped{partition="0",}'] == 0
    assert figures['stopped{partition="1",}'] == 1
    assert figures['lag_records{partition="1",}'] == 9
    metrics.assigned([2])
    partitions = [name for name in _figures(metrics) if "partition=" in name]
    assert partitions == ['stopped{partition="2",}']
