"""`durian rebuild`: views made anew from the log beside the live ones, compared, switched."""

import os
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop

from engine.postgres.schema import require_schema
from ops.commands.options import data_option, json_option
from ops.config import Config, require
from ops.console import print_json
from ops.demo.progress import open_progress
from ops.errors import Exit, UsageError
from ops.event_sources import SourceName
from ops.rebuild_plan import Outlook, outlook
from ops.rebuilding import Plan, Rebuilt, Switch, rebuild
from ops.view_access import chosen_projections, views_config
from projections.differences import Difference

SHOWN_MAX = 20
DIGEST_SHOWN = 16
MIB = 1 << 20


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…|all")
@click.option(
    "--from",
    "source",
    type=click.Choice(["log", "kafka"]),
    default="log",
    show_default=True,
    help="PostgreSQL with its archives, or Kafka's copy.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--verify-only", is_flag=True, help="Compare with a fold of the log, never switch.")
@click.option("--rollback", is_flag=True, help="Bring the previous generation up to now, and back.")
@click.option("--accept-differences", is_flag=True, help="Switch although they are not equal.")
@click.option(
    "--workers", type=click.IntRange(1), default=None, help="Processes (else one per core)."
)
@data_option
@json_option
def command(
    names: tuple[str, ...],
    source: SourceName,
    workers: int | None,
    data: Path | None,
    *,
    dry_run: bool,
    verify_only: bool,
    rollback: bool,
    accept_differences: bool,
    as_json: bool,
) -> Exit:
    """Fold the log into a new generation of views while the live one goes on, and switch to it.

    Readers see the new views only if they equal the live ones at the same position. Otherwise the
    exit code is 1, the differences are listed, and the new generation is kept: --accept-differences
    switches to it. A rebuild that was killed goes on where it was.
    """
    if sum((verify_only, rollback, accept_differences)) > 1:
        raise UsageError("--verify-only, --rollback and --accept-differences exclude each other")
    switch: Switch = "if_equal"
    if verify_only:
        switch = "never"
    elif rollback or accept_differences:
        switch = "always"
    plan = Plan(
        names=chosen_projections(names),
        source=source,
        switch=switch,
        workers=workers or os.cpu_count() or 1,
        is_rollback=rollback,
    )
    config = views_config(data)
    require_schema(require(config, "postgres_url"))
    if dry_run:
        return _tell_outlook(uvloop.run(outlook(config, plan)), as_json=as_json)
    results = uvloop.run(_run(config, plan, is_told=not as_json))
    if as_json:
        print_json([shown_result(result) for result in results])
    return Exit.WRONG if any(result.is_wrong for result in results) else Exit.OK


async def _run(config: Config, plan: Plan, *, is_told: bool) -> list[Rebuilt]:
    results = []
    with open_progress() as tasks:
        async for result in rebuild(config, plan, tasks):
            results.append(result)
            if is_told:
                click.echo(result_text(result))
    return results


def result_text(result: Rebuilt) -> str:
    """What became of one projection, and its first differences."""
    made = result.comparison
    at = f"at position {max(made.positions):,}"
    size = f"{made.entries:,} entries, digest {made.new_digest[:DIGEST_SHOWN]}…"
    line = f"{result.projection}: generation {result.generation}"
    if not made.is_compared:
        line += f" replaced views that were lost or behind, nothing to compare with: {size}"
    elif made.differing:
        line += f" is not generation {result.replaced} {at}: {made.differing:,} of {size} differ"
    else:
        line += f" equals generation {result.replaced} {at}: {size}"
    line += f"\n  {result.events:,} events folded, compared in {result.compare_seconds:.1f} s; "
    line += f"switched, held {made.held_ms:.0f} ms" if made.switched else "not switched"
    lines = [line, *(difference_text(one) for one in made.differences[:SHOWN_MAX])]
    if made.differing > SHOWN_MAX:
        lines.append(f"  … and {made.differing - SHOWN_MAX:,} more (--json lists up to 1,000)")
    if result.is_wrong:
        lines.append(
            f"  generation {result.generation} is kept: `durian rebuild --accept-differences "
            f"{result.projection}` switches to it, `durian views drop {result.projection} "
            f"{result.generation}` deletes it"
        )
    return "\n".join(lines)


def difference_text(one: Difference) -> str:
    """One line of three: where, what the log gives, what is live."""
    where = f"db {one.database} {one.key} {one.field}".rstrip()
    wanted = "nothing" if one.expected is None else one.expected
    got = "nothing" if one.found is None else one.found
    return f"  {where}\n    the log gives {wanted}\n    live has      {got}"


def shown_result(result: Rebuilt) -> dict[str, Any]:
    """Plain values of a result for --json."""
    shown: dict[str, Any] = msgspec.to_builtins(result)
    return shown


def _tell_outlook(found: list[Outlook], *, as_json: bool) -> Exit:
    if as_json:
        print_json(msgspec.to_builtins(found))
        return Exit.OK
    for one in found:
        click.echo(f"{one.projection}: {one.action}")
        click.echo(
            f"  live generation {one.live}: positions {', '.join(f'{p:,}' for p in one.positions)}"
            f" of {one.head:,}; {one.entries:,} keys or rows, about {one.bytes / MIB:.1f} MiB, and"
            " as much again while there are two"
        )
        click.echo(f"  {one.events:,} events to fold, about {one.seconds:.0f} s")
    return Exit.OK
