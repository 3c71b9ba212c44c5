"""`durian demo`: the whole system with simulated users, live or from a tape of real trades."""

import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path

import click
import msgspec

from gateway.engine_client import EngineClient, EngineTimes, fixed_address
from gateway.errors import DatabaseUnavailable, EngineUnavailable, Refusal
from ops.commands.options import data_option, json_option
from ops.config import Config, load_config, working_directory
from ops.console import address_lines, open_report, print_json
from ops.datadir import open_data_dir, remember_started
from ops.demo import tape as tapes
from ops.demo.people import people_of, settle_in, sign_in_lines
from ops.demo.progress import open_progress
from ops.demo.summary import TapeSummary, summarise
from ops.demo.warp import warp
from ops.errors import Exit, ServerUnavailable, StackNotReady, UsageError
from ops.identity_access import auth_config
from ops.live_view import show_live_view
from ops.plan import StackOptions
from ops.positions import wait_for_views
from ops.stack import Stack, running_stack
from ops.wiring import address_of

WARP_TIMES = EngineTimes(connected_max=120.0, answer_max=120.0, silence_last=120.0)
VIEWS_STANDSTILL_S = 60.0
BOTS = {"demo": ("bots",)}
DOCUMENTED = ("auth", "contribution", "mining", "trading", "admin")
WELCOME_SECONDS_MAX = 20.0


class TapeRun(msgspec.Struct, frozen=True, kw_only=True):
    """One warp run as asked for on the command line."""

    tape: tapes.Tape
    data_dir: Path
    leave: bool
    as_json: bool


@click.command()
@data_option
@click.option(
    "--tape",
    "tape_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV or CSV.gz of time_ms,trade_id,price,quantity,taker_side.",
)
@click.option("--warp", "warped", is_flag=True, help="As fast as the engine can, on tape time.")
@click.option("--market", default="DUR-CNY", show_default=True, help="BASE-QUOTE of the tape.")
@click.option("--burn-bps", type=click.IntRange(0, 9_999), default=10, show_default=True)
@click.option("--tick", help="Price step of the market; derived from the tape by default.")
@click.option("--lot", help="Quantity step of the market; derived from the tape by default.")
@click.option("--exit", "leave", is_flag=True, help="End when the tape is through.")
@json_option
def command(
    data: Path | None,
    tape_path: Path | None,
    market: str,
    burn_bps: int,
    tick: str | None,
    lot: str | None,
    *,
    warped: bool,
    leave: bool,
    as_json: bool,
) -> None:
    """Run the whole system with demo users; with --tape, replay real trades on a fresh ledger."""
    config = load_config()
    if tape_path is None:
        if warped or tick or lot or leave:
            raise UsageError("--warp, --tick, --lot and --exit need --tape FILE")
        asyncio.run(_live(config, data or config.data_dir))
        return
    if not warped:
        raise UsageError("a tape is replayed with --warp")
    tape = tapes.read_tape(tape_path, market_id=market, burn_bps=burn_bps, tick=tick, lot=lot)
    run = TapeRun(
        tape=tape,
        data_dir=data or _fresh_directory(config.data_dir, tape_path),
        leave=leave,
        as_json=as_json,
    )
    if run.data_dir.exists() and any(run.data_dir.iterdir()):
        raise UsageError(f"{run.data_dir} is not empty; a tape needs a fresh ledger")
    if not asyncio.run(_replay(config, run)):
        sys.exit(Exit.WRONG)


def _fresh_directory(root: Path, tape_path: Path) -> Path:
    stem = tape_path.name.split(".")[0]
    number = 1
    while (path := root / "tapes" / f"{stem}-{number}").exists():
        number += 1
    return path


async def _live(config: Config, data_dir: Path) -> None:
    options = StackOptions(data_dir=data_dir, extra_parts=BOTS)
    report = open_report()
    async with running_stack(config, options, on_change=report.show) as stack:
        _stop_on_signals(stack)
        remember_started(stack.data_dir, working_directory())
        try:
            await stack.wait_ready()
        except StackNotReady:
            if stack.stop_requested():
                return
            raise
        finally:
            report.close()
        greeting = [f"ready in {stack.status().data}", *address_lines(stack.status())]
        click.echo("\n".join([*greeting, *await _welcome(stack)]))
        view = asyncio.create_task(show_live_view(stack.config))
        stopped = asyncio.create_task(stack.wait_stopped())
        await asyncio.wait([view, stopped], return_when=asyncio.FIRST_COMPLETED)
        click.echo("stopping", err=True)
        view.cancel()
        stack.request_stop()
        await stopped
        with contextlib.suppress(asyncio.CancelledError):
            await view


async def _welcome(stack: Stack) -> list[str]:
    """Where each service documents itself, and how to sign in."""
    urls = {
        name: address["url"]
        for part in stack.status().parts
        for name, address in part.addresses.items()
        if name in DOCUMENTED
    }
    lines = [f"  {name:<14} {url}/docs" for name, url in urls.items()]
    lines.insert(0, "documentation of each service:")
    if "auth" not in urls:
        return lines
    people = people_of(stack.data_dir)
    try:
        async with asyncio.timeout(WELCOME_SECONDS_MAX):
            accounts_url = auth_config(stack.data_dir.root).auth_url
            config = msgspec.structs.replace(stack.config, auth_url=accounts_url)
            await settle_in(config, people)
    except (Refusal, DatabaseUnavailable, ServerUnavailable, TimeoutError) as exc:
        return [*lines, f"nobody can sign in yet: {exc}"]
    return [*lines, *sign_in_lines(people, urls["auth"])]


async def _replay(config: Config, run: TapeRun) -> bool:
    """True if the ledger agrees with the tape afterwards."""
    options = StackOptions(
        data_dir=run.data_dir,
        clock="virtual",
        genesis=msgspec.json.encode(run.tape.genesis()),
    )
    report = open_report()
    async with running_stack(config, options, on_change=report.show) as stack:
        _stop_on_signals(stack)
        remember_started(open_data_dir(run.data_dir), working_directory())
        try:
            await stack.wait_ready()
        finally:
            report.close()
        warping = asyncio.create_task(_warp(run.tape, stack))
        stopped = asyncio.create_task(stack.wait_stopped())
        await asyncio.wait([warping, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not warping.done():
            warping.cancel()
            await asyncio.gather(warping, return_exceptions=True)
            return False
        summary = warping.result()
        if run.as_json:
            print_json(msgspec.to_builtins(summary))
        else:
            click.echo("\n".join([*summary.lines(), *address_lines(stack.status())]))
        if run.leave:
            stack.request_stop()
        elif not run.as_json:
            click.echo("The ledger stays up for queries; Ctrl-C ends it.")
        sys.stdout.flush()
        await stopped
        return summary.agrees


async def _warp(tape: tapes.Tape, stack: Stack) -> TapeSummary:
    host, port = address_of(stack.config.engine_url)
    client = EngineClient(locate=fixed_address(host, port), times=WARP_TIMES)
    began = time.monotonic()
    with open_progress() as progress:
        trades = progress.task("trades", len(tape.trades))
        async with client.running():
            warped = await warp(tape, client, unavailable=EngineUnavailable, progress=trades)
        committed = time.monotonic()
        views = progress.task("views", warped.position)
        await wait_for_views(
            stack.config.redis_url,
            warped.position,
            timeout_s=VIEWS_STANDSTILL_S,
            progress=views,
        )
    seen = time.monotonic()
    return await summarise(
        tape,
        warped,
        stack.config.redis_url,
        commit_seconds=round(committed - began, 3),
        view_seconds=round(seen - began, 3),
    )


def _stop_on_signals(stack: Stack) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stack.request_stop)
