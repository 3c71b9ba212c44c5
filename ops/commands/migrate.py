"""`durian migrate`: schema, roles and topics of a ledger, and the check of the schema's version."""

import asyncio
from pathlib import Path

import click

from engine.postgres.schema import SCHEMA_VERSION, schema_version
from ops.commands.options import data_option, json_option
from ops.config import load_config
from ops.console import print_json
from ops.errors import Exit
from ops.log_access import log_config
from ops.servers import postgres


@click.command()
@click.option("--check", is_flag=True, help="Only compare versions; exit code 1 if they differ.")
@data_option
@json_option
def command(data: Path | None, *, check: bool, as_json: bool) -> Exit:
    """Create or upgrade what is needed in PostgreSQL and Kafka; safe to run again.

    `durian up` does this by itself. --check works on a stack that runs, or on DURIAN_POSTGRES_URL.
    """
    if check:
        return _check(data, as_json=as_json)
    # Here, not above: it loads alembic, which takes longer than the check.
    from ops.migrating import run_migrate

    done = asyncio.run(run_migrate(load_config()))
    if as_json:
        print_json(done)
        return Exit.OK
    schemas = {
        "schema": done.schema,
        "history": done.history,
        "accounts": done.auth,
        "administration": done.desk,
    }
    for name, schema in schemas.items():
        for step in schema.applied:
            click.echo(f"applied {step}")
        click.echo(f"{name} {schema.after}{'' if schema.applied else ', nothing to do'}")
    click.echo(f"topics created: {', '.join(done.topics_created) or 'none, all there'}")
    return Exit.OK


def _check(data: Path | None, *, as_json: bool) -> Exit:
    present = schema_version(log_config(data, role=postgres.LOG_READER).postgres_url)
    if as_json:
        print_json({"present": present, "expected": SCHEMA_VERSION})
    else:
        click.echo(f"schema {present or 'none'}, this program expects {SCHEMA_VERSION}")
    return Exit.OK if present == SCHEMA_VERSION else Exit.WRONG
