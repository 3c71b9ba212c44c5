"""`durian bench NAME`: measure this machine. A registry: later measurements add a line to it."""

import sys
from collections.abc import Callable

import click
import msgspec
from rich.console import Console

from ops.bench.domain import run_domain
from ops.bench.levels import run_levels
from ops.bench.report import Report, show
from ops.commands.options import json_option
from ops.console import print_json
from ops.demo.progress import Tasks, open_progress

Benchmark = Callable[[float, Tasks], Report]
BENCHMARKS: dict[str, Benchmark] = {"domain": run_domain, "levels": run_levels}
SECONDS_MIN = 1
LINE_WIDTH = 160


@click.command()
@click.argument("name", type=click.Choice(sorted(BENCHMARKS)))
@click.option(
    "--seconds",
    type=click.FloatRange(min=SECONDS_MIN),
    default=60,
    show_default=True,
    help="How long to measure; setting up comes on top.",
)
@json_option
def command(name: str, seconds: float, *, as_json: bool) -> None:
    """Measure one thing beside a reference, in turns: medians, ratio and target.

    A missed target is a finding, not a failure: the exit code is 0.
    """
    with open_progress() as tasks:
        report = BENCHMARKS[name](seconds, tasks)
    if as_json:
        print_json(msgspec.to_builtins(report))
        return
    console = Console(file=sys.stdout)
    show(report, console if console.is_terminal else Console(file=sys.stdout, width=LINE_WIDTH))
