"""`durian token`: sign a bearer token with the data directory's key."""

from pathlib import Path

import click

from ops.commands.options import data_option, find_stack, json_option
from ops.console import print_json
from ops.datadir import open_data_dir
from ops.tokens import ROLES, parse_lifetime, sign_token


@click.command()
@click.option("--user", required=True, help="The token's subject, an opaque user id.")
@click.option("--role", required=True, type=click.Choice(ROLES))
@click.option("--ttl", default="12h", show_default=True, help="Lifetime: 90s, 15m, 12h, 7d.")
@data_option
@json_option
def command(user: str, role: str, ttl: str, data: Path | None, *, as_json: bool) -> None:
    """Print a bearer token for a user in a role."""
    lifetime_s = parse_lifetime(ttl)
    data_dir = open_data_dir(find_stack(data).root)
    token = sign_token(data_dir, user=user, role=role, lifetime_s=lifetime_s)
    if as_json:
        print_json({"token": token, "user": user, "role": role, "expires_in": lifetime_s})
    else:
        click.echo(token)
