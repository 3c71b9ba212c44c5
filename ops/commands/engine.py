"""`durian engine`: the single writer of a ledger, in the foreground."""

import click
import uvloop

from ops.config import load_config
from ops.wiring import run_engine


@click.command()
def command() -> None:
    """Run the engine: time and commands in, events to the PostgreSQL log."""
    uvloop.run(run_engine(load_config()))
