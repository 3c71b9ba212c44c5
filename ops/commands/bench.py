"""`durian bench NAME`: measure this machine. A registry: later measurements add a line to it."""

import sys
from collections.abc import Callable
from functools import partial

import click
import msgspec
from rich.console import Console

from ops.bench import gateway_runs
from ops.bench.domain import run_domain
from ops.bench.engine import PARTS, run_engine
from ops.bench.failover import run_failover
from ops.bench.gateway import run_gateway
from ops.bench.http import run_http
from ops.bench.levels import run_levels
from ops.bench.lists import run_lists
from ops.bench.projections import run_projections
from ops.bench.rebuild import run_rebuild
from ops.bench.report import Report, show
from ops.commands.options import json_option
from ops.console import print_json
from ops.demo.progress import Tasks, open_progress
from ops.errors import UsageError

Benchmark = Callable[[float, Tasks], Report]
BENCHMARKS: dict[str, Benchmark] = {
    "domain": run_domain,
    "engine": run_engine,
    "failover": run_failover,
    "gateway": run_gateway,
    "http": run_http,
    "levels": run_levels,
    "lists": run_lists,
    "projections": run_projections,
    "rebuild": run_rebuild,
}
SECONDS_MIN = 1
CONNECTIONS_MIN = 50
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
@click.option(
    "--only", type=click.Choice(PARTS), help="One part of `engine`, for all of the seconds."
)
@click.option(
    "--connections", type=click.IntRange(min=CONNECTIONS_MIN), help="How many phones `gateway` has."
)
@json_option
def command(
    name: str, seconds: float, *, only: str | None, connections: int | None, as_json: bool
) -> None:
    """Measure one thing beside a reference, in turns: medians, ratio and target.

    A missed target is a finding, not a failure: the exit code is 0.
    """
    benchmark = BENCHMARKS[name]
    if only is not None:
        if name != "engine":
            raise UsageError(f"--only: {name} has no parts, engine has")
        benchmark = partial(run_engine, only=only)
    if connections is not None:
        if name != "gateway":
            raise UsageError(f"--connections: {name} has none, gateway has")
        benchmark = partial(run_gateway, sizes=gateway_runs.Sizes(connections=connections))
    with open_progress() as tasks:
        report = benchmark(seconds, tasks)
    if as_json:
        print_json(msgspec.to_builtins(report))
        return
    console = Console(file=sys.stdout)
    show(report, console if console.is_terminal else Console(file=sys.stdout, width=LINE_WIDTH))
