"""ops.bench: what a report looks like and that it measures what it says; never how fast we are."""

import importlib.util
import json
from collections import Counter

import pytest

from domain.ledger import evolve
from domain.snapshot import dump, load
from ops.bench import levels, order_mix, references
from ops.bench.domain import Sizes, run_domain
from ops.bench.order_mix import Place
from ops.bench.report import Report, Row, row
from ops.bench.turns import ROUNDS_MIN, take_turns
from ops.cli import run
from ops.commands.bench import BENCHMARKS
from ops.demo.progress import LineTasks, Tasks
from ops.errors import Exit
from schemas.codecs import decode_event
from schemas.commands import CancelOrder, PlaceOrder, ReplaceOrder

SMALL = Sizes(
    traders=5,
    resting=20,
    commands=200,
    miners=(1, 10),
    split_users=10,
    ticks=5,
    reads=10,
    kept_users=10,
    kept_orders=20,
    memory=10,
)
MATCHERS = [
    references.ListMatcher,
    *([references.LiquibookMatcher] if references.has_liquibook() else []),
]


def _stream(seed: int = 7) -> order_mix.OrderStream:
    return order_mix.order_stream(
        users=5, resting=20, count=500, seed=seed, progress=lambda _: None
    )


def _small(seconds: float, tasks: Tasks) -> Report:
    return run_domain(seconds, tasks, SMALL)


def test_the_json_form_is_the_one_that_targets_are_checked_by(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BENCHMARKS, "domain", _small)
    assert run(["bench", "domain", "--json", "--seconds", "1"]) == Exit.OK
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["name"] == "domain"
    assert {tuple(line) for line in report["rows"]} == {Row.__struct_fields__}
    assert Row.__struct_fields__ == (
        "metric",
        "ours",
        "reference",
        "reference_name",
        "ratio",
        "target",
        "met",
    )
    assert "orders: 100 of 100" in captured.err


def test_the_domain_report_has_every_figure_once() -> None:
    report = run_domain(0.01, LineTasks(), SMALL)
    metrics = Counter(line.metric for line in report.rows)
    assert max(metrics.values()) == 1
    words = ("orders/s", "mining tick", "reads/s", "per user", "per open order", "replayed", "load")
    assert all(any(word in metric for metric in metrics) for word in words)
    assert ("orders/s against C++ matching" in metrics) == references.has_liquibook()
    assert all(line.ours > 0 for line in report.rows)


def test_levels_are_measured_with_and_without_a_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(levels, "LEVELS", (10,))
    report = levels.run_levels(0.01, LineTasks())
    assert [line.metric.rpartition(", ")[2] for line in report.rows] == ["levels: 10"] * 2
    has_reference = importlib.util.find_spec("sortedcontainers") is not None
    assert {line.reference is not None for line in report.rows} == {has_reference}


def test_people_get_a_table_and_the_notes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(name="x", rows=(row("seconds", 1, at_least=2),), notes=("a [note]",))
    monkeypatch.setitem(BENCHMARKS, "domain", lambda _seconds, _tasks: report)
    assert run(["bench", "domain"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "seconds" in shown
    assert "NO" in shown
    assert "- a [note]" in shown


@pytest.mark.parametrize("arguments", [["bench"], ["bench", "weather"]])
def test_a_benchmark_without_a_known_name_is_a_usage_error(arguments: list[str]) -> None:
    assert run(arguments) == Exit.USAGE


@pytest.mark.parametrize(
    ("ours", "at_least", "at_most", "target", "met"),
    [
        (40_000, 40_000, None, ">= 40,000", True),
        (39_999, 40_000, None, ">= 40,000", False),
        (1.2, None, 1.2, "<= 1.2", True),
        (1.21, None, 1.2, "<= 1.2", False),
        (1, None, None, None, None),
    ],
)
def test_a_row_says_whether_its_target_is_met(
    ours: float,
    at_least: float | None,
    at_most: float | None,
    target: str | None,
    met: bool | None,
) -> None:
    line = row("m", ours, at_least=at_least, at_most=at_most)
    assert (line.target, line.met, line.ratio) == (target, met, None)


def test_a_row_compares_ours_with_the_reference() -> None:
    line = row("m", 50, reference=200, reference_name="other")
    assert (line.ratio, line.reference_name) == (0.25, "other")


def test_contestants_take_turns_and_the_median_counts() -> None:
    called: list[str] = []
    figures = iter([1.0, 9.0, 2.0])

    def ours() -> float:
        called.append("ours")
        return next(figures)

    def reference() -> float:
        called.append("reference")
        return 5.0

    told: list[int] = []
    contestants = {"ours": ours, "reference": reference}
    assert take_turns(contestants, seconds=1e-9, progress=told.append) == {
        "ours": 2.0,
        "reference": 5.0,
    }
    assert called == ["ours", "reference"] * ROUNDS_MIN
    assert told[-1] == 100


def test_a_seed_draws_the_same_stream_again() -> None:
    assert _stream() == _stream()
    assert _stream().commands != _stream(seed=8).commands


def test_a_stream_leads_from_its_start_to_its_log() -> None:
    stream = _stream()
    state, replayed = load(stream.start), load(stream.start)
    sent = order_mix.decode_commands(stream.commands)
    happened = [event for command in sent for event in order_mix.apply_command(state, command)]
    assert happened == [decode_event(payload) for payload in stream.log]
    for payload in stream.log:
        evolve(replayed, decode_event(payload))
    assert dump(replayed) == dump(state)
    assert {type(command) for command in sent} == {PlaceOrder, CancelOrder, ReplaceOrder}
    assert sum(order_mix.SHARES.values()) == 100


@pytest.mark.parametrize("kind", MATCHERS)
def test_reference_matchers_fill_by_price_and_time(kind: type[references.Matcher]) -> None:
    matcher = kind()
    asks = [Place(1, False, 11, 5, "gtc"), Place(2, False, 10, 5, "gtc")]
    references.match(matcher, [*asks, Place(3, True, 10, 7, "ioc"), Place(4, True, 9, 3, "gtc")])
    assert matcher.fills == 1
    references.match(matcher, [4, Place(5, False, 9, 3, "ioc"), Place(6, True, 0, 3, "ioc")])
    assert matcher.fills == 2


def test_splitting_by_rows_leaves_only_dust() -> None:
    balances = [0, 0, 0]
    assert references.split_by_rows(balances, [1, 1, 1], 100) == 1
    assert balances == [33, 33, 33]
