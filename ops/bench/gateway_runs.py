"""The runs of `durian bench gateway`: everyone at one tick a second, flat out, beside clients that
don't read, and with screens of all kinds. Each starts its server anew and stops it again.
"""

import contextlib
from collections.abc import Callable, Iterator

import msgspec

from ops.bench.gateway_servers import Served, Surroundings
from ops.bench.gateway_tally import ACCOUNT, BALANCE, PULSE, Figures, Group
from ops.bench.order_mix import MARKET
from schemas.wire import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK

WARM_SECONDS = 1.0
SETTLE_SECONDS = 0.5
# Of the specification: 50,000 trades a day.
TRADES_PER_S = 50_000 / 86_400
CHANGES_PER_S = 2
STALLED_SHARE = 0.05
# Small buffers and much to send, so that it shows within seconds who does not read.
STALLED_RECEIVE_BYTES = 4_096
BUSY_TICK_S = 0.1
BUSY_TRADES = 2
ENDED_SECONDS_MAX = 8.0
METERS = 50
QUIET_SHARE = 4
PHONE = (PULSE, ACCOUNT)
FULL = (*PHONE, f"kline.{MARKET}.1m", f"burns.{MARKET}", f"trades.{MARKET}")
SCREENS = {
    "pulse": (PULSE,),
    "pulse and account": PHONE,
    "full screen": FULL,
    "server-computed balance": (BALANCE,),
}
OURS, WEBSOCKETS, SOCKETIO = "ours", "websockets", "Socket.IO"
ENCODINGS = {"JSON": SUBPROTOCOL_JSON, "msgpack": SUBPROTOCOL_MSGPACK}


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """stalled: connections of that run. stalled_seconds: at least, until it shows who is closed.

    processes: of the run with several on one port; 0 leaves it out.
    """

    connections: int = 12_000
    rounds: int = 3
    window_seconds: float = 3
    stalled: int = 1_000
    stalled_seconds: float = 20
    processes: int = 4
    references: tuple[str, ...] = (WEBSOCKETS, SOCKETIO)
    screens: tuple[str, ...] = tuple(SCREENS)


class Paced(msgspec.Struct, frozen=True, kw_only=True):
    """accepted, entered: connections a second; *_cpu_seconds: the server's for each of them.

    missed: changes of accounts that did not arrive. flat_out: None if it was not run.
    """

    accepted: float
    accept_cpu_seconds: float
    entered: float
    enter_cpu_seconds: float
    bytes_per_connection: float
    figures: Figures
    missed: int = 0
    flat_out: Figures | None = None


class Stalled(msgspec.Struct, frozen=True, kw_only=True):
    """alone, beside: the others' figures without and with clients that don't read.

    ended: how those ended.
    """

    alone: Figures
    beside: Figures
    stalled: int
    ended: dict[str, int]


class Screens(msgspec.Struct, frozen=True, kw_only=True):
    """quiet: while nobody trades. trades: a second, of the other figures."""

    quiet: Figures
    trading: Figures
    trades: float


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """A reference: all its connections get one message a second, unasked."""

    name: str
    start: Callable[[], Served]
    path: str
    opens_with: str = ""


@contextlib.contextmanager
def _running(around: Surroundings, served: Served) -> Iterator[Served]:
    try:
        yield served
    finally:
        around.phones.leave()
        served.stop()


def run_ours(
    around: Surroundings,
    connections: int,
    *,
    seconds: float,
    flat_out: float = 0,
    processes: int = 1,
) -> Paced:
    """One tick a second, everyone with pulse and account; then, maybe, as fast as it goes."""
    phones, feed = around.phones, around.feed
    everyone = (
        Group(name="phones", count=connections, subprotocol=SUBPROTOCOL_JSON, channels=PHONE),
    )
    with _running(around, around.gateway(processes)) as served:
        accepted = phones.open(served.port, everyone, around.stamps)
        accept_cpu_seconds = served.cpu_seconds()
        entered = phones.enter(everyone)
        enter_cpu_seconds = served.cpu_seconds() - accept_cpu_seconds
        feed.pace(1, connections, changes=min(CHANGES_PER_S, connections))
        phones.watch(WARM_SECONDS, served)
        figures = phones.watch(seconds, served)
        written = feed.rest()
        settled = phones.watch(SETTLE_SECONDS, served, is_paced=False)
        fast = None
        if flat_out:
            feed.pace(0, connections)
            phones.watch(min(WARM_SECONDS, flat_out), served, is_paced=False)
            fast = phones.watch(flat_out, served, is_paced=False)
            feed.rest()
    return Paced(
        accepted=accepted,
        accept_cpu_seconds=accept_cpu_seconds / connections,
        entered=entered,
        enter_cpu_seconds=enter_cpu_seconds / connections,
        bytes_per_connection=_bytes_per_connection(served, figures, connections),
        figures=figures,
        missed=written.changes - settled.accounts,
        flat_out=fast,
    )


def run_reference(
    around: Surroundings, contestant: Contestant, connections: int, *, seconds: float
) -> Paced:
    everyone = (
        Group(
            name="phones",
            count=connections,
            path=contestant.path,
            opens_with=contestant.opens_with,
        ),
    )
    with _running(around, contestant.start()) as served:
        accepted = around.phones.open(served.port, everyone)
        accept_cpu_seconds = served.cpu_seconds()
        around.phones.watch(WARM_SECONDS, served)
        figures = around.phones.watch(seconds, served)
    return Paced(
        accepted=accepted,
        accept_cpu_seconds=accept_cpu_seconds / connections,
        entered=0,
        enter_cpu_seconds=0,
        bytes_per_connection=_bytes_per_connection(served, figures, connections),
        figures=figures,
    )


def run_stalled(
    around: Surroundings, connections: int, *, alone_seconds: float, beside_seconds: float
) -> Stalled:
    """Full screens on a busy market; some of them stop reading."""
    phones, feed = around.phones, around.feed
    count = max(int(connections * STALLED_SHARE), 1)
    healthy = Group(
        name="healthy",
        count=connections - count,
        subprotocol=SUBPROTOCOL_JSON,
        channels=FULL,
    )
    stalled = msgspec.structs.replace(
        healthy,
        name="stalled",
        count=count,
        first=healthy.count,
        receive_bytes=STALLED_RECEIVE_BYTES,
    )
    with _running(around, around.gateway()) as served:
        phones.open(served.port, (healthy, stalled), around.stamps)
        phones.enter((healthy, stalled))
        feed.pace(BUSY_TICK_S, connections, trades=BUSY_TRADES)
        phones.watch(WARM_SECONDS, served, is_paced=False)
        alone = phones.watch(alone_seconds, served, is_paced=False)
        phones.stall(stalled)
        beside = phones.watch(beside_seconds, served, is_paced=False)
        ended = phones.resume(stalled, min(ENDED_SECONDS_MAX, beside_seconds))
        feed.rest()
    return Stalled(alone=alone, beside=beside, stalled=count, ended=ended)


def run_screens(
    around: Surroundings, connections: int, *, seconds: float, screens: tuple[str, ...]
) -> Screens:
    """Equal shares of every screen in both encodings, at one tick a second.

    The traffic's names are those of `screen_name`.
    """
    phones, feed = around.phones, around.feed
    groups = _screen_groups(connections, screens)
    count = sum(group.count for group in groups)
    with _running(around, around.gateway()) as served:
        phones.open(served.port, groups, around.stamps)
        phones.enter(groups)
        feed.pace(1, count)
        phones.watch(WARM_SECONDS, served)
        quiet = phones.watch(max(seconds // QUIET_SHARE, 1), served, meters=METERS)
        feed.rest()
        feed.pace(1, count, trades=TRADES_PER_S)
        phones.watch(WARM_SECONDS, served)
        trading = phones.watch(seconds, served, meters=METERS)
        written = feed.rest()
    return Screens(quiet=quiet, trading=trading, trades=written.trades / written.seconds)


def _screen_groups(connections: int, screens: tuple[str, ...]) -> tuple[Group, ...]:
    kinds = [(screen, encoding) for screen in screens for encoding in ENCODINGS]
    share = max(connections // len(kinds), 1)
    return tuple(
        Group(
            name=screen_name(screen, encoding),
            count=share,
            subprotocol=ENCODINGS[encoding],
            channels=SCREENS[screen],
            first=number * share,
        )
        for number, (screen, encoding) in enumerate(kinds)
    )


def screen_name(screen: str, encoding: str) -> str:
    return f"{screen}, {encoding}"


def _bytes_per_connection(served: Served, figures: Figures, connections: int) -> float:
    return (figures.server_bytes - served.idle_bytes) / connections
