"""`durian snapshot`: keep the ledger's state, so that the next start reads only the log's tail."""

from pathlib import Path

import click

from ops.commands.options import data_option, json_option
from ops.config import archive_directory
from ops.console import print_json
from ops.errors import Exit
from ops.log_access import log_config
from ops.servers import postgres
from ops.snapshotting import check_snapshots, keep_snapshot


@click.command()
@click.option("--check", is_flag=True, help="Compare each stored snapshot with a fold of the log.")
@data_option
@json_option
def command(data: Path | None, *, check: bool, as_json: bool) -> Exit:
    """Fold the newest snapshot and the log after it, and store the result.

    The engine does this by itself every 100,000 events. With --check nothing is stored: the whole
    log is folded, and exit code 1 says that a stored snapshot is not the fold at its position.
    """
    config = log_config(data, role=postgres.LOG_WRITER)
    place = config.postgres_url, archive_directory(config)
    if check:
        findings = check_snapshots(*place)
        if as_json:
            print_json(findings)
        else:
            for found in findings:
                click.echo(f"position {found['position']:,}: {found['finding']}")
            click.echo(f"{len(findings)} snapshots")
        return Exit.OK if all(found["equal"] for found in findings) else Exit.WRONG
    kept = keep_snapshot(*place)
    if as_json:
        print_json(kept)
    else:
        click.echo(
            f"snapshot of position {kept['position']:,}: {kept['bytes']:,} bytes, "
            f"from position {kept['from_position']:,} in {kept['seconds']:.1f} s"
        )
    return Exit.OK
