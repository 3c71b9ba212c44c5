"""`durian bots`: the demo's users, in the foreground."""

import logging
import sys

import click
import uvloop

from ops.config import load_config
from ops.demo.bots import run_bots


@click.command()
@click.option("--seed", type=int, help="Repeat an earlier run's choices.")
def command(seed: int | None) -> None:
    """Run demo users who mine and trade through the services' public API."""
    config = load_config()
    logging.basicConfig(
        level=config.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # One line per request would bury everything else.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    uvloop.run(run_bots(config, seed))
