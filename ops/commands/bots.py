"""`durian bots`: the demo's users, in the foreground."""

import click
import uvloop

from ops.config import load_config
from ops.demo.bots import run_bots
from ops.logs import configure_logs


@click.command()
@click.option("--seed", type=int, help="Repeat an earlier run's choices.")
def command(seed: int | None) -> None:
    """Run demo users who mine and trade through the services' public API."""
    config = load_config()
    configure_logs(config)
    uvloop.run(run_bots(config, seed))
