"""`durian status`: state and address of every part, as the supervisor last wrote them down."""

from pathlib import Path

import click

from ops.commands.options import data_option, find_stack, json_option
from ops.console import open_report, print_json
from ops.errors import Exit
from ops.status import describe, read_state, running_state


@click.command()
@data_option
@json_option
def command(data: Path | None, *, as_json: bool) -> int:
    """Show every part. Exit code 0: all ready; 1: not all ready; 3: not running."""
    data_dir = find_stack(data)
    running = running_state(data_dir)
    known = running or read_state(data_dir)
    if as_json:
        nothing = {"data": str(data_dir.root), "ready": False, "parts": {}}
        print_json(describe(known, alive=running is not None) if known else nothing)
    elif running is None:
        click.echo(f"nothing runs in {data_dir.root}")
    else:
        report = open_report(click.get_text_stream("stdout"))
        report.show(running)
        report.close()
    if running is None:
        return Exit.DEPENDENCY_DOWN
    return Exit.OK if running.ready else Exit.WRONG
