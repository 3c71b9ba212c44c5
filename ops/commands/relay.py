"""`durian relay`: the log's copy to Kafka, in the foreground."""

import click
import uvloop

from ops.config import load_config
from ops.wiring import run_relay


@click.command()
def command() -> None:
    """Run the relay: tail the PostgreSQL log and publish it to Kafka, exactly."""
    uvloop.run(run_relay(load_config()))
