"""`durian view`: the live view of a stack that somebody else started."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from ops.commands.options import data_option, find_stack, json_option
from ops.config import Config, load_config
from ops.errors import ServerUnavailable
from ops.live.picture import Picture, pulse_values
from ops.live_view import print_pulses, show_live_view
from ops.status import StackStatus, running_state

SERVICES = ("contribution", "mining", "trading", "stream")


@click.command()
@data_option
@json_option
def command(data: Path | None, *, as_json: bool) -> None:
    """Show a running stack live; with --json, or without a terminal, a line for each second."""
    data_dir = find_stack(data)
    status = running_state(data_dir)
    if status is None:
        raise ServerUnavailable(f"nothing runs in {data_dir.root}; start it with `durian up`")
    config = pointed_at(load_config(), status)
    with contextlib.suppress(BrokenPipeError):  # the reader of our lines has had enough
        asyncio.run(
            until_signal(print_pulses(config, _json) if as_json else show_live_view(config))
        )


def pointed_at(config: Config, status: StackStatus) -> Config:
    """The configuration of a client of this stack, with the ports that it really uses."""
    places = {
        name: urlsplit(address["url"])
        for part in status.parts
        for name, address in part.addresses.items()
        if name in SERVICES
    }
    ports = {name: place.port for name, place in places.items() if place.port}
    return msgspec.structs.replace(
        config,
        data_dir=Path(status.data),
        host=next((place.hostname for place in places.values() if place.hostname), config.host),
        ports=msgspec.structs.replace(config.ports, **ports),
    )


def _json(picture: Picture) -> str:
    return msgspec.json.encode(pulse_values(picture)).decode()


async def until_signal(showing: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(showing)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
