"""ops.bench.engine and what it is made of: that it measures what it says; never how fast we are."""

import asyncio
import threading
from collections.abc import Iterator

import msgspec
import pytest

from ops.bench import engine_append, engine_orders, engine_relay, engine_restart
from ops.bench.engine import PARTS, Sizes, run_engine
from ops.bench.engine_append import TRADE_KEYS, Feed, history_of
from ops.bench.order_frames import FrameSource, Plan, write_number
from ops.bench.order_load import Draw, Generator, Prepare, Reconnect, Slice, UnexpectedAnswer
from ops.bench.order_mix import user_name
from ops.cli import run
from ops.demo.progress import LineTasks
from ops.errors import Exit
from schemas.commands import CancelOrder, DepositFunds, FreezeAccount, PlaceOrder, ReplaceOrder
from schemas.frames import LENGTH, Request
from tests.fixtures.tiny_engine import TinyEngine

SECONDS = 0.2
USERS = 10
SMALL = Sizes(
    orders=engine_orders.Sizes(depths=(1, 8), rates=(200,), users=20, resting=50),
    append=engine_append.Sizes(batches=(1, 10), events=20),
    restart=engine_restart.Sizes(tail=500, library=200, users=20, resting=50),
    relay=engine_relay.Sizes(events=500, users=20, resting=50),
)


def _requests(plan: Plan) -> list[Request]:
    requests = []
    for start, end in zip(plan.starts, plan.starts[1:], strict=False):
        (length,) = LENGTH.unpack_from(plan.data, start)
        assert start + LENGTH.size + length == end
        requests.append(msgspec.json.decode(plan.data[start + LENGTH.size : end], type=Request))
    return requests


def _drawn() -> list[list[Request]]:
    source = FrameSource(lanes=3, users=10)
    source.fund()
    source.rest(30)
    source.mix(500)
    return [_requests(plan) for plan in source.plans]


def test_frames_are_keyed_requests_numbered_by_lane() -> None:
    lanes = _drawn()
    assert all([request.id for request in lane] == list(range(len(lane))) for lane in lanes)
    keys = [request.key for lane in lanes for request in lane]
    assert len(set(keys)) == len(keys) > 500
    assert all(keys)


def test_a_users_commands_travel_on_one_lane() -> None:
    users = [
        {request.command.user_id for request in lane}  # type: ignore[union-attr]  # all have one
        for lane in _drawn()
    ]
    assert not users[0] & users[1] | users[0] & users[2] | users[1] & users[2]


def test_the_mix_holds_every_kind_of_command() -> None:
    kinds = {type(request.command) for lane in _drawn() for request in lane}
    assert kinds == {DepositFunds, PlaceOrder, CancelOrder, ReplaceOrder}


def test_a_cancel_has_room_for_the_engines_number_of_its_order() -> None:
    source = FrameSource(lanes=1, users=2)
    source.fund()
    source.rest(5)
    source.mix(50)
    (plan,) = source.plans
    placement, at = plan.uses[0]
    assert isinstance(_requests(plan)[placement].command, PlaceOrder)
    write_number(plan.data, at, 7_654_321)
    index = next(i for i, start in enumerate(plan.starts) if start > at) - 1
    command = _requests(plan)[index].command
    assert isinstance(command, CancelOrder | ReplaceOrder)
    assert command.order_id == 7_654_321


class _TinyEngines:
    """Tiny engines on a loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self.engines: dict[str, TinyEngine] = {}
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._generators: list[Generator] = []

    async def _run(self) -> None:
        first, second = TinyEngine(), TinyEngine()
        async with first.serving(), second.serving():
            self.engines = {"ours": first, "stock": second}
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> "_TinyEngines":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        for generator in self._generators:
            generator.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def generator(self, *, resting: int = 40) -> Generator:
        ports = {name: engine.port for name, engine in self.engines.items()}
        self._generators.append(Generator(Prepare(ports, lanes=2, users=USERS, resting=resting)))
        return self._generators[-1]


@pytest.fixture
def tiny() -> Iterator[_TinyEngines]:
    with _TinyEngines() as engines:
        yield engines


def test_both_engines_are_prepared_alike(tiny: _TinyEngines) -> None:
    tiny.generator(resting=40)
    assert all(len(engine.state.orders) == 40 for engine in tiny.engines.values())


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_everything_drawn_is_answered_once(tiny: _TinyEngines, depth: int) -> None:
    generator, engine = tiny.generator(), tiny.engines["stock"]
    before = len(engine.log)
    generator.draw(Draw("stock", 300))
    wanted = Slice("stock", seconds=0, depth=2 * depth, sample=True)
    figures = generator.slice(wanted)
    assert figures.answered == 300
    assert len(figures.samples) + sum(figures.refused.values()) == 300
    positions = [position for position, *_ in figures.samples]
    assert before < min(positions) <= max(positions) == len(engine.log)
    assert 0 < figures.p50 <= figures.p99 <= figures.p100


def test_orders_are_cancelled_by_the_engines_own_numbers(tiny: _TinyEngines) -> None:
    generator = tiny.generator()
    generator.draw(Draw("ours", 1_000))
    refused = generator.slice(Slice("ours", seconds=0, depth=2)).refused
    # A third of the mix are cancels: without their numbers nearly all of them would fail.
    assert refused.get("unknown_order", 0) < 30


def test_a_closed_slice_ends_with_its_time_or_with_its_commands(tiny: _TinyEngines) -> None:
    generator = tiny.generator()
    generator.draw(Draw("ours", 50))
    dry = generator.slice(Slice("ours", seconds=30, depth=2))
    assert dry.seconds < 30
    generator.draw(Draw("ours", 20_000))
    timed = generator.slice(Slice("ours", seconds=0.1, depth=4))
    assert 0 < timed.answered < 20_000
    assert timed.seconds == pytest.approx(0.09)


def test_an_open_slice_offers_its_rate(tiny: _TinyEngines) -> None:
    generator = tiny.generator()
    generator.draw(Draw("ours", 300))
    figures = generator.slice(Slice("ours", seconds=0.2, rate=500, sample=True))
    assert len(figures.samples) + sum(figures.refused.values()) == 100
    sent = sorted(sent_ns for _, sent_ns, _ in figures.samples)
    assert sent[-1] - sent[0] <= 200_000_000
    assert all(sent_ns <= answered_ns for _, sent_ns, answered_ns in figures.samples)


def test_a_refusal_that_no_rule_explains_ends_the_run(tiny: _TinyEngines) -> None:
    generator, engine = tiny.generator(), tiny.engines["ours"]
    for number in range(USERS):
        engine.accept(FreezeAccount(user_id=user_name(number), reason="bench"))
    generator.draw(Draw("ours", 50))
    with pytest.raises(UnexpectedAnswer):
        generator.slice(Slice("ours", seconds=0, depth=1))


def test_the_generator_goes_on_after_a_restart(tiny: _TinyEngines) -> None:
    generator, engine = tiny.generator(), tiny.engines["ours"]
    generator.reconnect(Reconnect("ours", engine.port))
    generator.draw(Draw("ours", 50))
    assert generator.slice(Slice("ours", seconds=0, depth=4)).answered == 50


def test_fed_events_go_on_in_their_streams() -> None:
    feed = Feed()
    events = [event for batch in feed.batches(3, 700) for event in batch]
    assert {len(event.state) for event in events} == {200}
    places = {(event.originator_id, event.originator_version) for event in events}
    assert len(places) == len(events) == 2_100


def test_history_has_the_keys_of_the_mix() -> None:
    keys = history_of(100, 10)
    assert len(keys) == 2 * TRADE_KEYS + 8
    assert len({key for key, _ in keys}) == len(keys)
    assert {index for _, index in keys} == set(range(10))


def test_only_belongs_to_the_engine() -> None:
    assert run(["bench", "levels", "--only", "orders"]) == Exit.USAGE


@pytest.mark.services
@pytest.mark.parametrize("part", PARTS)
def test_each_part_measures_ours_beside_a_reference(part: str) -> None:
    report = run_engine(SECONDS, LineTasks(), only=part, sizes=SMALL)
    metrics = [line.metric for line in report.rows]
    assert len(set(metrics)) == len(metrics) > 0
    assert all(line.ours > 0 for line in report.rows)
    assert any(line.reference for line in report.rows)
    assert any(line.target for line in report.rows)
