"""`durian migrate`: schema, roles and topics of a ledger, and the check of the schema's version."""

import asyncio

import click

from engine.postgres.schema import SCHEMA_VERSION, schema_version
from ops.commands.options import json_option
from ops.config import load_config, require
from ops.console import print_json
from ops.errors import Exit


@click.command()
@click.option("--check", is_flag=True, help="Only compare versions; exit code 1 if they differ.")
@json_option
def command(*, check: bool, as_json: bool) -> Exit:
    """Create or upgrade what is needed in PostgreSQL and Kafka; safe to run again."""
    if check:
        return _check(as_json=as_json)
    # Here, not above: it loads alembic, which takes longer than the check.
    from ops.migrating import run_migrate

    done = asyncio.run(run_migrate(load_config()))
    if as_json:
        print_json(done)
        return Exit.OK
    for step in done.schema.applied:
        click.echo(f"applied {step}")
    click.echo(f"schema {done.schema.after}{'' if done.schema.applied else ', nothing to do'}")
    click.echo(f"topics created: {', '.join(done.topics_created) or 'none, all there'}")
    return Exit.OK


def _check(*, as_json: bool) -> Exit:
    present = schema_version(require(load_config(), "postgres_url"))
    if as_json:
        print_json({"present": present, "expected": SCHEMA_VERSION})
    else:
        click.echo(f"schema {present or 'none'}, this program expects {SCHEMA_VERSION}")
    return Exit.OK if present == SCHEMA_VERSION else Exit.WRONG
