"""`durian engine`: the single writer of a ledger, or its hot standby, in the foreground."""

import click
import uvloop

from ops.config import load_config
from ops.leading import run_engine
from ops.logs import configure_logs


@click.command()
def command() -> None:
    """Run the engine: time and commands in, events to the PostgreSQL log.

    A second engine of the same ledger folds the log and takes over when the first one is gone.
    """
    config = load_config()
    configure_logs(config)
    uvloop.run(run_engine(config))
