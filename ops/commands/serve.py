"""`durian serve`: any of the gateway's services in one process, in the foreground."""

from typing import cast

import click
import uvloop

from ops.config import load_config
from ops.logs import configure_logs
from ops.serving import SERVICE_NAMES, ServiceName, run_services


@click.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice(SERVICE_NAMES))
def command(names: tuple[str, ...]) -> None:
    """Serve the named services, each on its port (DURIAN_HOST, DURIAN_PORT_<NAME>)."""
    config = load_config()
    configure_logs(config)
    chosen = cast(tuple[ServiceName, ...], tuple(dict.fromkeys(names)))
    uvloop.run(run_services(config, chosen))
