"""`durian down`: stop a stack in order, and whatever a killed one left behind."""

from pathlib import Path

import click

from ops.commands.options import data_option, find_stack
from ops.console import open_report
from ops.stack import stop_stack


@click.command()
@data_option
def command(data: Path | None) -> None:
    """Stop a stack; nothing is lost, and `durian up` continues where it was."""
    data_dir = find_stack(data)
    report = open_report()
    try:
        stopped = stop_stack(data_dir, on_change=report.show)
    finally:
        report.close()
    click.echo(f"stopped {data_dir.root}" if stopped else f"nothing runs in {data_dir.root}")
