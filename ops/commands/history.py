"""`durian log history`: every event of one user, order, trade or stream, by an indexed read."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from engine.ports import LoggedEvent
from engine.postgres.history import LedgerHistory
from engine.postgres.schema import require_schema
from ops.commands.options import data_option, json_option
from ops.console import print_json
from ops.errors import UsageError
from ops.log_access import log_config
from ops.servers import postgres

PAGE_EVENTS = 500
SECOND_NS = 1_000_000_000


@click.command()
@click.argument("kind", type=click.Choice(["user", "order", "trade", "stream"]))
@click.argument("name")
@click.option("--after", type=click.IntRange(0), default=0, help="Only events after this position.")
@click.option(
    "--limit", type=click.IntRange(1), default=1_000, show_default=True, help="At most so many."
)
@data_option
@json_option
def history(
    kind: str, name: str, after: int, limit: int, data: Path | None, *, as_json: bool
) -> None:
    """Print what happened to a user (id), an order or a trade (number), or in a stream.

    Oldest first: position, time, event. Archived events are not found here. The reader's role is
    enough.
    """
    if kind in ("order", "trade") and not name.isdecimal():
        raise UsageError(f"{name!r}: expected a number, as in `durian log history {kind} 7`")
    url = log_config(data, role=postgres.LOG_READER).postgres_url
    require_schema(url)
    found = asyncio.run(_collect(url, kind, name, after, limit))
    if as_json:
        print_json([{"position": one.position, **_fields(one)} for one in found])
        return
    for one in found:
        click.echo(_line(one))
    if len(found) == limit:
        click.echo(f"there may be more: --after {found[-1].position}", err=True)


async def _collect(url: str, kind: str, name: str, after: int, limit: int) -> list[LoggedEvent]:
    found: list[LoggedEvent] = []
    async with LedgerHistory(url) as reader:
        async for event in _events(reader, kind, name, after):
            found.append(event)
            if len(found) == limit:
                break
    return found


async def _events(
    reader: LedgerHistory, kind: str, name: str, after: int
) -> AsyncIterator[LoggedEvent]:
    if kind == "trade":
        for event in await reader.of_trade(int(name)):
            if event.position > after:
                yield event
        return
    position: int | None = after
    while position is not None:
        if kind == "order":
            page = await reader.of_order(int(name), after=position, limit=PAGE_EVENTS)
        elif kind == "user":
            page = await reader.of_user(name, after=position, limit=PAGE_EVENTS)
        else:
            page = await reader.of_stream(name, after=position, limit=PAGE_EVENTS)
        for event in page.events:
            yield event
        position = page.after


def _fields(logged: LoggedEvent) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.json.decode(logged.payload)
    return fields


def _line(logged: LoggedEvent) -> str:
    fields = _fields(logged)
    kind, at_ns = fields.pop("type"), fields.pop("at_ns")
    fields.pop("v")
    told = " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
    time = datetime.fromtimestamp(at_ns // SECOND_NS, UTC)
    return f"{logged.position:>12,}  {time:%Y-%m-%d %H:%M:%S}  {kind:<20}  {told}"
