"""`durian keys`: the keys that bearer tokens are signed with: list, rotate, retire."""

from pathlib import Path

import click

from ops.commands.options import data_option, find_stack, json_option
from ops.console import print_json
from ops.datadir import DataDir, open_data_dir
from ops.tokens import list_keys, retire_key, rotate_keys


@click.group()
def command() -> None:
    """List, rotate and retire the keys of bearer tokens."""


@command.command("list")
@data_option
@json_option
def list_command(data: Path | None, *, as_json: bool) -> None:
    """Print the keys, oldest first; new tokens are signed with the last."""
    listed = list_keys(_stack(data))
    if as_json:
        print_json([{"kid": one.kid, "signs": one.signs} for one in listed])
        return
    for one in listed:
        click.echo(f"{one.kid}  {'signs' if one.signs else 'verifies'}")


@command.command()
@data_option
@json_option
def rotate(data: Path | None, *, as_json: bool) -> None:
    """Sign with a new key from now on; tokens signed before go on until they expire."""
    made = rotate_keys(_stack(data))
    if as_json:
        print_json({"kid": made.kid})
    else:
        click.echo(f"new tokens are signed with {made.kid}")


@command.command()
@click.argument("kid")
@data_option
@json_option
def retire(kid: str, data: Path | None, *, as_json: bool) -> None:
    """Take a key out; every token that was signed with it stops within seconds."""
    retire_key(_stack(data), kid)
    if as_json:
        print_json({"retired": kid})
    else:
        click.echo(f"tokens of {kid} are refused from now on")


def _stack(data: Path | None) -> DataDir:
    return open_data_dir(find_stack(data).root)
