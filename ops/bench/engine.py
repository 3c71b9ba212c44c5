"""`durian bench engine`: durable orders, appends, restarts and the relay on private servers.

PostgreSQL and Kafka run with the settings of `durian up` (fsync, synchronous commit) in a temporary
directory, and end with the run. Each part can run alone.
"""

from collections.abc import Callable
from functools import partial

import msgspec

from ops.bench import engine_append, engine_orders, engine_relay, engine_restart
from ops.bench.engine_servers import Servers, private_servers
from ops.bench.report import Report, Row
from ops.demo.progress import Tasks


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything; the report is about the defaults."""

    orders: engine_orders.Sizes = engine_orders.Sizes()
    append: engine_append.Sizes = engine_append.Sizes()
    restart: engine_restart.Sizes = engine_restart.Sizes()
    relay: engine_relay.Sizes = engine_relay.Sizes()


Part = Callable[[Servers, float, Tasks], list[Row]]
PARTS = ("orders", "append", "restart", "relay")
"""In the order of the report."""
NOTES = (
    "Servers: PostgreSQL with fsync and synchronous_commit on, over TCP, and Kafka with one "
    "broker, both on this machine, like all processes that are measured.",
)
_SHARES = {"orders": 0.5, "append": 0.2, "restart": 0.15, "relay": 0.15}


def run_engine(
    seconds: float, tasks: Tasks, *, only: str | None = None, sizes: Sizes | None = None
) -> Report:
    """Measure for about `seconds`; setting up comes on top. only: one of PARTS, for all seconds.

    Raises ServerUnavailable if a server or an engine cannot be started.
    """
    sizes = sizes or Sizes()
    parts: dict[str, Part] = {
        "orders": partial(engine_orders.run_orders, sizes=sizes.orders),
        "append": partial(engine_append.run_append, sizes=sizes.append),
        "restart": partial(engine_restart.run_restart, sizes=sizes.restart),
        "relay": partial(engine_relay.run_relay, sizes=sizes.relay),
    }
    rows: list[Row] = []
    for name in (only,) if only else PARTS:
        # Servers of its own, so that no part leaves work behind for the next one.
        with private_servers() as servers:
            rows += parts[name](servers, seconds if only else seconds * _SHARES[name], tasks)
    notes = {
        "orders": engine_orders.notes(sizes.orders),
        "append": engine_append.NOTES,
        "restart": engine_restart.NOTES,
        "relay": engine_relay.NOTES,
    }
    told = [note for name in notes if only in (None, name) for note in notes[name]]
    return Report(name="engine", rows=tuple(rows), notes=(*told, *NOTES))
