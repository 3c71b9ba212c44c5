"""`durian views`: what is there, what is in it, how two generations differ, and dropping one."""

from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop

from engine.postgres.operations import OperationsRecord
from engine.postgres.schema import require_schema
from ops.commands.options import data_option, json_option
from ops.commands.rebuild import MIB, result_text, shown_result
from ops.config import Config, require
from ops.console import print_json
from ops.demo.progress import open_progress
from ops.errors import Exit, UsageError
from ops.rebuilding import Plan, Rebuilt, drop_generation, rebuild
from ops.servers import postgres
from ops.view_access import chosen_projections, projection_names, views_config
from ops.view_listing import ListedGeneration, ShownKey, list_generations, list_keys, show_key

KEYS_SHOWN = 50
name_argument = click.argument("name", type=click.Choice(projection_names()))


@click.group()
def command() -> None:
    """The views in Redis and PostgreSQL, by projection and generation.

    A projection's views are one generation of several; readers see the live one. `durian rebuild`
    makes others.
    """


@command.command("list")
@click.option(
    "--operations",
    type=click.IntRange(0),
    default=0,
    help="Also the last so many entries of the log's operations record.",
)
@data_option
@json_option
def list_views(operations: int, data: Path | None, *, as_json: bool) -> None:
    """Every generation: state, positions, keys, memory. The log's reader role is enough."""
    config = views_config(data, role=postgres.LOG_READER)
    found = uvloop.run(list_generations(config, projection_names()))
    done = OperationsRecord(require(config, "postgres_url")).newest(operations)
    if as_json:
        told: dict[str, Any] = {"generations": msgspec.to_builtins(found)}
        if operations:
            told["operations"] = [one._asdict() for one in done]
        print_json(told)
        return
    for one in found:
        click.echo(_line(one))
    for one in reversed(done):
        detail = ", ".join(f"{name} {told}" for name, told in one.detail.items())
        head = f"{one.at} {one.actor} {one.operation} {one.projection}: {one.outcome}"
        click.echo(f"{head} ({detail})" if detail else head)


@command.command()
@name_argument
@click.argument("key", default="")
@click.option("--generation", default="", help="Another one than the live one.")
@data_option
@json_option
def show(name: str, key: str, generation: str, data: Path | None, *, as_json: bool) -> Exit:
    """One key, decoded; amounts in minor units, as stored. Of KEY, the keys that begin with it."""
    config = views_config(data, role=postgres.LOG_READER)
    shown = uvloop.run(show_key(config, name, key, generation)) if key else None
    if shown is not None:
        return _tell_key(shown, as_json=as_json)
    count, names = uvloop.run(list_keys(config, name, key, generation, KEYS_SHOWN))
    if as_json:
        print_json({"keys": [{"database": db, "key": one} for db, one in names], "count": count})
    else:
        for database, one in names:
            click.echo(f"db {database} {one}")
        if count > len(names):
            click.echo(f"… and {count - len(names):,} more; name a longer beginning", err=True)
    if count == 0:
        click.echo(f"{name} has no key {key!r} in this generation", err=True)
        return Exit.WRONG
    return Exit.OK


@command.command()
@name_argument
@click.argument("generations", nargs=-1)
@data_option
@json_option
def diff(name: str, generations: tuple[str, ...], data: Path | None, *, as_json: bool) -> Exit:
    """Compare the live views with a fresh fold of the log, or with another generation.

    GENERATIONS: one, or two of which one is live. The other is brought up to the live one's
    position first. Exit code 1 if they differ.
    """
    config = views_config(data)
    require_schema(require(config, "postgres_url"))
    if len(generations) > 2:
        raise UsageError("name two generations at most")
    (result,) = uvloop.run(_compare(config, name, generations))
    if as_json:
        print_json(shown_result(result))
    else:
        click.echo(result_text(result))
    return Exit.WRONG if result.comparison.differing else Exit.OK


@command.command()
@name_argument
@click.argument("generation")
@data_option
@json_option
def drop(name: str, generation: str, data: Path | None, *, as_json: bool) -> None:
    """Delete a generation that is not live."""
    config = views_config(data)
    require_schema(require(config, "postgres_url"))
    count = uvloop.run(drop_generation(config, name, generation))
    if as_json:
        print_json({"projection": name, "generation": generation, "entries": count})
    else:
        click.echo(f"dropped {name} generation {generation}: {count:,} keys or rows")


async def _compare(config: Config, name: str, generations: tuple[str, ...]) -> list[Rebuilt]:
    names, other = chosen_projections((name,)), ""
    if generations:
        found = await list_generations(config, names)
        known = {one.generation: one.state for one in found}
        for one in generations:
            if one not in known:
                raise UsageError(f"{name} has no generation {one}; there are {', '.join(known)}")
        others = [one for one in generations if known[one] != "live"]
        if len(others) != 1:
            raise UsageError("exactly one of the two must be another than the live one")
        other = others[0]
    plan = Plan(names=names, switch="never", generation=other)
    with open_progress() as tasks:
        return [result async for result in rebuild(config, plan, tasks)]


def _line(one: ListedGeneration) -> str:
    positions = ", ".join(f"{position:,}" for position in one.positions)
    told = (
        f"{one.projection:<9} {one.generation:>3} {one.state:<9} positions {positions:<24} "
        f"epoch {', '.join(one.epochs) or '-':<12} {one.entries:>9,} keys "
        f"{one.bytes / MIB:>8.1f} MiB"
    )
    if one.source:
        told += f"  from {one.source}, begun {one.started_at}"
    return told


def _tell_key(shown: ShownKey, *, as_json: bool) -> Exit:
    if as_json:
        print_json(msgspec.to_builtins(shown))
        return Exit.OK
    click.echo(f"db {shown.database} {shown.key} ({shown.kind}), generation {shown.generation}")
    if isinstance(shown.content, dict) and shown.kind in ("hash", "zset"):
        for field, content in shown.content.items():
            click.echo(f"{field}: {msgspec.json.encode(content).decode()}")
    elif shown.kind == "list":
        for content in shown.content:
            click.echo(msgspec.json.encode(content).decode())
    else:
        click.echo(msgspec.json.format(msgspec.json.encode(shown.content)).decode())
    return Exit.OK
