"""`durian bench domain`: the ledger's rules on one core, in memory; no log, no network.

Orders, mining ticks, accrual reads, memory, replay and snapshots, each against what is named beside
it. The order of the parts is that of the report.
"""

import gc
import random
import tracemalloc
from collections.abc import Iterable

import msgspec

from domain.ledger import evolve, tick
from domain.snapshot import dump, load
from domain.state import LedgerState
from ops.bench import order_mix, references
from ops.bench.order_mix import OrderDesk, OrderStream, apply_command, decode_commands
from ops.bench.report import Report, Row, row
from ops.bench.turns import Timed, elapsed, take_turns
from ops.demo.progress import Tasks
from schemas.codecs import decode_event, encode_event
from schemas.commands import LedgerCommand
from schemas.snapshots import decode_snapshot, encode_snapshot

ORDERS_PER_S_MIN = 40_000
TICK_US_MAX = 10
TICK_GROWTH_MAX = 1.2
REPLAY_PER_S_MIN = 100_000
MICRO = 1_000_000
SEED = 7
REWARD_MINOR = 1_00000000
# The list matcher is so slow that a part of the stream has to do.
LIST_STEPS_MAX = 1_000


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything; the report is about the defaults."""

    traders: int = 1_000
    resting: int = 10_000
    commands: int = 50_000
    miners: tuple[int, ...] = (1, 1_000, 1_000_000)
    split_users: int = 100_000
    ticks: int = 2_000
    reads: int = 100_000
    kept_users: int = 100_000
    kept_orders: int = 100_000
    memory: int = 20_000


def run_domain(seconds: float, tasks: Tasks, sizes: Sizes | None = None) -> Report:
    """Measure for about `seconds`, and as long again to set up."""
    sizes = sizes or Sizes()
    stream = order_mix.order_stream(
        users=sizes.traders,
        resting=sizes.resting,
        count=sizes.commands,
        seed=SEED,
        progress=tasks.task("drawing orders", sizes.commands),
    )
    return Report(
        name="domain",
        rows=(
            *_orders(stream, seconds * 0.4, tasks),
            *_mining(sizes, seconds * 0.2, tasks),
            *_memory(sizes, tasks),
            *_replay(stream, seconds * 0.2, tasks),
            *_snapshots(sizes, seconds * 0.2, tasks),
        ),
        notes=(*stream.notes, *NOTES),
    )


NOTES = (
    "Seconds are CPU seconds of one process on one core, so waiting for a neighbour on a shared "
    "machine does not count (its traffic in the caches does); medians of rounds in turns.",
    "An order's figure includes decide and evolve of every event (postings, fees, burns, client "
    "order ids); commands arrive decoded. Both matchers only match; shrinking in place is left "
    "out of their steps.",
    "A tick is decide and evolve of one second in which nothing expires. The reference's second "
    "adds each user's share to a list in memory, nothing is stored.",
    "Memory is what tracemalloc counts after decoding and evolving a log of users with a grant "
    "and two balances, then of resting orders with the client order ids kept for two days.",
    "Replay decodes stored payloads of the order stream and evolves them; no hash chain, no "
    "reading. A snapshot's users have a grant and two balances each.",
)


def _orders(stream: OrderStream, seconds: float, tasks: Tasks) -> list[Row]:
    contestants: dict[str, Timed] = {
        "ours": lambda: _orders_per_s(stream),
        "list": lambda: _steps_per_s(references.ListMatcher(), stream, LIST_STEPS_MAX),
    }
    if references.has_liquibook():
        contestants["liquibook"] = lambda: _steps_per_s(
            references.LiquibookMatcher(), stream, len(stream.steps)
        )
    figures = take_turns(contestants, seconds=seconds, progress=tasks.task("orders", 100))
    rows = [
        row(
            "orders/s, decide + evolve",
            figures["ours"],
            reference=figures["list"],
            reference_name="matching in plain Python lists",
            at_least=ORDERS_PER_S_MIN,
        )
    ]
    if "liquibook" in figures:
        rows.append(
            row(
                "orders/s against C++ matching",
                figures["ours"],
                reference=figures["liquibook"],
                reference_name="liquibook through Python, matching only",
            )
        )
    return rows


def _orders_per_s(stream: OrderStream) -> float:
    # Decoded anew: the engine never sees the same string object twice.
    state, sent = load(stream.start), decode_commands(stream.commands)

    def send() -> None:
        for command in sent:
            apply_command(state, command)

    return len(sent) / elapsed(send)


def _steps_per_s(matcher: references.Matcher, stream: OrderStream, count: int) -> float:
    references.match(matcher, stream.start_steps)
    steps = stream.steps[:count]
    return len(steps) / elapsed(lambda: references.match(matcher, steps))


def _mining(sizes: Sizes, seconds: float, tasks: Tasks) -> list[Row]:
    ledgers = {count: _miners(count, tasks) for count in sizes.miners}
    contestants: dict[str, Timed] = {
        str(count): _ticking(state, sizes.ticks) for count, state in ledgers.items()
    }
    balances, weights = [0] * sizes.split_users, list(range(1, sizes.split_users + 1))
    contestants["split"] = lambda: (
        MICRO * elapsed(lambda: references.split_by_rows(balances, weights, REWARD_MINOR))
    )
    most = max(sizes.miners)
    contestants["reads"] = lambda: _reads_per_s(ledgers[most], most, sizes.reads)
    contestants["collect"] = lambda: 1_000 * elapsed(gc.collect)
    figures = take_turns(contestants, seconds=seconds, progress=tasks.task("mining", 100))
    rows = [
        row(
            f"us a mining tick, users: {count:,}",
            figures[str(count)],
            reference=figures["split"],
            reference_name=f"splitting a second over {sizes.split_users:,} users, row by row",
            at_most=TICK_US_MAX,
        )
        for count in ledgers
    ]
    growth = figures[str(most)] / figures[str(min(sizes.miners))]
    return [
        *rows,
        row("tick with most users : tick with fewest", growth, at_most=TICK_GROWTH_MAX),
        row(f"accrual reads/s, users: {most:,}", figures["reads"]),
        row(f"ms a full garbage collection, users: {most:,}", figures["collect"]),
    ]


def _miners(count: int, tasks: Tasks) -> LedgerState:
    state = order_mix.open_ledger()
    progress = tasks.task(f"{count:,} miners", count)
    for number, command in enumerate(order_mix.granting(count), start=1):
        apply_command(state, command)
        if number % 1_000 == 0 or number == count:
            progress(number)
    return state


def _ticking(state: LedgerState, ticks: int) -> Timed:
    def timed() -> float:
        assert state.mining is not None
        first = state.mining.last_second + 1

        def run() -> None:
            for second in range(first, first + ticks):
                tick(state, second)

        return MICRO * elapsed(run) / ticks

    return timed


def _reads_per_s(state: LedgerState, users: int, reads: int) -> float:
    assert state.mining is not None
    index, contributions = state.mining.index, state.contributions.users
    drawn = random.Random(SEED).choices(range(users), k=reads)
    names = [order_mix.user_name(number) for number in drawn]

    def read() -> None:
        for name in names:
            contributions[name].accrued_minor(index)

    return reads / elapsed(read)


def _memory(sizes: Sizes, tasks: Tasks) -> list[Row]:
    progress = tasks.task("memory", 2)
    state = order_mix.open_ledger()
    users = _log_of(state, [*order_mix.granting(sizes.memory), *order_mix.funding(sizes.memory)])
    desk = OrderDesk(state, sizes.memory, SEED)
    orders = [encode_event(event) for event in desk.rest(sizes.memory)]
    fresh = order_mix.open_ledger()
    user_bytes = _bytes_of(fresh, users)
    progress(1)
    order_bytes = _bytes_of(fresh, orders)
    progress(2)
    return [
        row("bytes per user", user_bytes / sizes.memory),
        row("bytes per open order", order_bytes / sizes.memory),
    ]


def _log_of(state: LedgerState, commands: Iterable[LedgerCommand]) -> list[bytes]:
    return [encode_event(event) for command in commands for event in apply_command(state, command)]


def _bytes_of(state: LedgerState, log: list[bytes]) -> int:
    gc.collect()
    tracemalloc.start()
    _fold(state, log)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept


def _fold(state: LedgerState, log: list[bytes]) -> None:
    for payload in log:
        evolve(state, decode_event(payload))


def _decode(log: list[bytes]) -> None:
    for payload in log:
        decode_event(payload)


def _replay(stream: OrderStream, seconds: float, tasks: Tasks) -> list[Row]:
    log = stream.log

    def replay() -> float:
        state = load(stream.start)
        return len(log) / elapsed(lambda: _fold(state, log))

    figures = take_turns(
        {"ours": replay, "decode": lambda: len(log) / elapsed(lambda: _decode(log))},
        seconds=seconds,
        progress=tasks.task("replay", 100),
    )
    return [
        row(
            "replayed events/s, decode + evolve",
            figures["ours"],
            reference=figures["decode"],
            reference_name="decoding alone",
            at_least=REPLAY_PER_S_MIN,
        )
    ]


def _snapshots(sizes: Sizes, seconds: float, tasks: Tasks) -> list[Row]:
    users, orders = sizes.kept_users, sizes.kept_orders
    state = order_mix.open_ledger()
    progress = tasks.task("a ledger to keep", users)
    for number, command in enumerate([*order_mix.granting(users), *order_mix.funding(users)]):
        apply_command(state, command)
        progress(number // 3)
    OrderDesk(state, users, SEED).rest(orders)
    progress(users)
    stored = encode_snapshot(dump(state))
    contestants: dict[str, Timed] = {
        "dump": lambda: elapsed(lambda: encode_snapshot(dump(state))),
        "load": lambda: elapsed(lambda: load(decode_snapshot(stored))),
    }
    figures = take_turns(contestants, seconds=seconds, progress=tasks.task("snapshots", 100))
    what = f"{users:,} users + {orders:,} orders"
    return [
        row(f"s to dump and encode {what}", figures["dump"]),
        row(f"s to decode and load {what}", figures["load"]),
        row(f"MB of a snapshot of {what}", len(stored) / MICRO),
    ]
