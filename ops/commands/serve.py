"""`durian serve`: any of the gateway's services in one process, in the foreground."""

import logging
import sys
from typing import cast

import click
import uvloop

from ops.config import load_config
from ops.serving import SERVICE_NAMES, ServiceName, run_services


@click.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice(SERVICE_NAMES))
def command(names: tuple[str, ...]) -> None:
    """Serve the named services, each on its port (DURIAN_HOST, DURIAN_PORT_<NAME>)."""
    config = load_config()
    logging.basicConfig(
        level=config.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    chosen = cast(tuple[ServiceName, ...], tuple(dict.fromkeys(names)))
    uvloop.run(run_services(config, chosen))
