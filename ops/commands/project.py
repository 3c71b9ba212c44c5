"""`durian project`: one projection's worker, in the foreground."""

import click
import uvloop

from ops.config import load_config
from ops.projecting import run_projection
from schemas.views import HOME_DB


@click.command()
@click.argument("projection", type=click.Choice(sorted(HOME_DB)))
@click.option(
    "--instance",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Number of this worker; live workers of one projection need different ones.",
)
def command(projection: str, instance: int) -> None:
    """Fold Kafka's copy of the log into one projection's views in Redis."""
    uvloop.run(run_projection(load_config(), projection, instance=instance))
