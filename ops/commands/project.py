"""`durian project`: one projection's worker, in the foreground."""

import click
import uvloop

from ops.config import load_config
from ops.projecting import run_projection
from projections.folders import TOPIC


@click.command()
@click.argument("projection", type=click.Choice(sorted(TOPIC)))
@click.option(
    "--instance",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Number of this worker; live workers of one projection need different ones.",
)
def command(projection: str, instance: int) -> None:
    """Fold Kafka's copy of the log into one projection's views."""
    uvloop.run(run_projection(load_config(), projection, instance=instance))
