"""The live view of a running stack: a redrawn screen on a terminal, a line a second elsewhere.

Joins the parts in ops.live. Runs until it is cancelled; whoever starts it handles Ctrl-C.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live

from ops.config import Config
from ops.live.feed import Reader, fill_candles, follow_stream, poll_miners
from ops.live.picture import Picture, plain_line
from ops.live.screen import draw
from ops.wiring import first_of

FRAMES_PER_SECOND = 5


async def show_live_view(config: Config) -> None:
    """Show the stack that config points to until cancelled.

    Raises ServerUnavailable if the stream tells us to stay away.
    """
    console = Console()
    if not console.is_terminal:
        await print_pulses(config, plain_line)
        return
    picture = Picture()
    with Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False) as live:
        await _alongside(_redraw(picture, live, console), config, picture)


async def print_pulses(
    config: Config, line: Callable[[Picture], str], stream: TextIO | None = None
) -> None:
    """One line for each second of the ledger, on standard output unless told."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    picture = Picture(on_pulse=lambda beaten: lines.put_nowait(line(beaten)))
    await _alongside(_print(lines, stream or sys.stdout), config, picture)


async def _print(lines: asyncio.Queue[str], stream: TextIO) -> None:
    while True:
        print(await lines.get(), file=stream, flush=True)


async def _redraw(picture: Picture, live: Live, console: Console) -> None:
    while True:
        width, height = console.size
        live.update(draw(picture, width, height, time.monotonic()), refresh=True)
        await asyncio.sleep(1 / FRAMES_PER_SECOND)


async def _alongside(showing: Coroutine[Any, Any, None], config: Config, picture: Picture) -> None:
    """Show while the picture is kept up to date; the first to fail ends all and is raised."""
    async with Reader(config) as reader:
        await first_of(
            showing,
            follow_stream(config, picture, reader),
            poll_miners(picture, reader),
            fill_candles(picture, reader),
        )
