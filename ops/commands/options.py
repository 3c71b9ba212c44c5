"""Options that several subcommands share, and which stack a command means when none is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ops.config import load_config, working_directory
from ops.datadir import DataDir, started_stacks
from ops.status import running_state

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

data_option: Decorator = click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Data directory of the stack (else DURIAN_DATA, else .durian).",
)
json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def find_stack(data: Path | None) -> DataDir:
    """The named stack; else the one most recently started from here that is alive; else .durian.

    Makes nothing: the directory may not exist.
    """
    named = data or (load_config().data_dir if load_config().data_dir != Path(".durian") else None)
    if named is not None:
        return DataDir(named.expanduser().absolute().resolve())
    for root in reversed(started_stacks(working_directory())):
        if running_state(DataDir(root)) is not None:
            return DataDir(root)
    return DataDir(Path(".durian").absolute().resolve())
