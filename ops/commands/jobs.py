"""`durian jobs`: the part that does the administration's jobs, in the foreground."""

import click
import uvloop

from ops.config import load_config
from ops.jobs import run_jobs


@click.command()
def command() -> None:
    """Do the jobs that administrators ask for: rebuilds and audits, one at a time.

    Needs the owner's URLs of the log and the history, as `durian migrate` does, and
    DURIAN_DESK_URL. Several may run on several machines; each job is done by one.
    """
    uvloop.run(run_jobs(load_config()))
