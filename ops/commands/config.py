"""`durian config`: the configuration this process would run with, secrets hidden."""

import click

from ops.commands.options import json_option
from ops.config import load_config, redacted
from ops.console import print_json


@click.command()
@json_option
def command(*, as_json: bool) -> None:
    """Print the configuration as read from DURIAN_* variables."""
    shown = redacted(load_config())
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        if isinstance(value, dict):
            for port_name, port in value.items():
                click.echo(f"{name}.{port_name} = {port}")
        else:
            click.echo(f"{name} = {value}")
