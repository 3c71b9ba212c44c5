"""`durian migrate`: tables, roles and topics of a ledger."""

import asyncio

import click
import msgspec

from ops.config import load_config
from ops.wiring import run_migrate


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was created as JSON.")
def command(as_json: bool) -> None:
    """Create what is missing in PostgreSQL and Kafka; safe to run again."""
    created = asyncio.run(run_migrate(load_config()))
    if as_json:
        click.echo(msgspec.json.encode({"topics_created": created}))
    else:
        click.echo(f"log ready; topics created: {', '.join(created) or 'none, all there'}")
