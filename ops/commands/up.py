"""`durian up`: start a stack, show it coming up, keep it until Ctrl-C; or leave it behind."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import click

from ops.commands.options import data_option, json_option
from ops.config import Config, load_config, working_directory
from ops.console import PlainReport, address_lines, open_report, print_json
from ops.datadir import DataDir, open_data_dir, remember_started
from ops.errors import StackNotReady
from ops.plan import StackOptions
from ops.stack import (
    POLL_INTERVAL_S,
    READY_DEADLINE_S,
    Stack,
    explain_not_ready,
    running_stack,
    start_detached,
)
from ops.status import StackStatus, describe, running_state

DEMO_PARTS = {"demo": ("bots",)}


@click.command()
@data_option
@click.option("--detach", is_flag=True, help="Return when all is ready; `durian down` stops it.")
@click.option("--demo", is_flag=True, help="With demo users who mine and trade.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1),
    default=READY_DEADLINE_S,
    show_default=True,
    help="Seconds until everything has to be ready.",
)
@json_option
def command(
    data: Path | None, *, detach: bool, demo: bool, timeout_s: float, as_json: bool
) -> None:
    """Start a stack: PostgreSQL, Redis, Kafka, engine, relay, projectors, services."""
    config = load_config()
    data_dir = open_data_dir(data or config.data_dir)
    if (already := _wait_for_other(data_dir, timeout_s)) is not None:
        click.echo(f"already up in {data_dir.root}", err=True)
        _print_ready(already, as_json=as_json)
        return
    if detach:
        _detach(data_dir, demo=demo, timeout_s=timeout_s, as_json=as_json)
        return
    options = StackOptions(data_dir=data_dir.root, extra_parts=DEMO_PARTS if demo else {})
    asyncio.run(_foreground(config, options, timeout_s=timeout_s, as_json=as_json))


def _wait_for_other(data_dir: DataDir, timeout_s: float) -> StackStatus | None:
    """The ready stack that another process runs here; None once there is no such process."""
    deadline = time.monotonic() + timeout_s
    while (status := running_state(data_dir)) is not None:
        if status.ready:
            return status
        if time.monotonic() > deadline:
            raise StackNotReady(explain_not_ready(status, data_dir))
        time.sleep(POLL_INTERVAL_S)
    return None


def _detach(data_dir: DataDir, *, demo: bool, timeout_s: float, as_json: bool) -> None:
    arguments = ["up", "--data", str(data_dir.root), "--timeout", str(timeout_s)]
    report = open_report()
    try:
        status = start_detached(
            [*arguments, "--demo"] if demo else arguments,
            data_dir=data_dir,
            timeout_s=timeout_s,
            on_change=report.show,
        )
    finally:
        report.close()
    remember_started(data_dir, working_directory())
    _print_ready(status, as_json=as_json)


class _Screen:
    """The report of the moment: a drawing while the stack comes up, plain lines from then on."""

    def __init__(self) -> None:
        self._report = open_report()

    def show(self, status: StackStatus) -> None:
        self._report.show(status)

    def settle(self, status: StackStatus) -> None:
        self._report.close()
        self._report = PlainReport(sys.stderr, known=status)

    def close(self) -> None:
        self._report.close()


async def _foreground(
    config: Config, options: StackOptions, *, timeout_s: float, as_json: bool
) -> None:
    loop = asyncio.get_running_loop()
    screen = _Screen()
    try:
        async with running_stack(config, options, on_change=screen.show) as stack:
            for order in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(order, stack.request_stop)
            remember_started(stack.data_dir, working_directory())
            await _announce(stack, screen, timeout_s=timeout_s, as_json=as_json)
            await stack.wait_stopped()
    finally:
        screen.close()


async def _announce(stack: Stack, screen: _Screen, *, timeout_s: float, as_json: bool) -> None:
    """Print the addresses once all is ready; a slow start is reported, not ended."""
    try:
        await stack.wait_ready(timeout_s)
    except StackNotReady as error:
        if not stack.stop_requested():
            screen.settle(stack.status())
            click.echo(str(error), err=True)
        return
    screen.settle(stack.status())
    _print_ready(stack.status(), as_json=as_json)
    if not as_json:
        click.echo("Ctrl-C stops it; logs are in " + str(stack.data_dir.logs))


def _print_ready(status: StackStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(describe(status, alive=True))
        return
    click.echo("\n".join([f"ready in {status.data}", *address_lines(status)]))
