"""`durian contribution`: grants given, changed, revoked, shown, and imported from a CSV file."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from gateway.contributions_import import Line, read_grants
from gateway.errors import Refusal
from ops.commands.options import data_option, find_stack, json_option
from ops.console import print_json
from ops.contributing import ContributionApi, import_file, refused_line
from ops.datadir import DataDir
from ops.demo.progress import open_progress
from ops.errors import Exit, ServerUnavailable, UsageError
from ops.status import running_state
from ops.tokens import has_keys, sign_token
from schemas.wire_mining import (
    ContributionShown,
    GrantBody,
    GrantTermsBody,
    ImportLine,
    LineOutcome,
)

OPERATOR: Final = "durian-cli"
TOKEN_LIFETIME_S: Final = 900
LINES_MAX: Final = 5_000_000
SHOWN_MAX: Final = 20
OUTCOMES: Final[dict[LineOutcome, str]] = {
    "applied": "applied",
    "already": "already there",
    "would_apply": "would be applied",
    "refused": "refused",
    "not_applied": "not applied, because other lines are refused",
}

_url_option = click.option("--url", help="Address of the service, else that of the stack.")
_token_option = click.option("--token", help="A bearer token of an operator, else one is signed.")
_weight_option = click.option("--weight", required=True, type=click.IntRange(1, 1 << 63))
_expires_option = click.option(
    "--expires", type=click.IntRange(0), metavar="SECOND", help="Unix second; never if left out."
)


def reaching(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which service is meant, and who asks."""
    for option in (json_option, data_option, _token_option, _url_option):
        command = option(command)
    return command


@click.group()
def command() -> None:
    """Weight of users in the mining pool."""


@command.command()
@click.argument("user")
@click.option("--grant", "grant_id", required=True, help="The grant's id, used once per user.")
@click.option("--source", required=True, help="What the weight is for.")
@_weight_option
@_expires_option
@reaching
def grant(
    user: str, grant_id: str, source: str, weight: int, expires: int | None, **reach: Any
) -> None:
    """Give a user weight."""
    body = GrantBody(
        user_id=user, grant_id=grant_id, source=source, weight=str(weight), expires_second=expires
    )
    with _api(**reach) as api:
        result = api.grant(body)
    if reach["as_json"]:
        print_json(result)
    else:
        click.echo(f"{user} has weight {result.weight_after} (position {result.position:,})")


@command.command()
@click.argument("user")
@click.argument("grant_id", metavar="GRANT")
@_weight_option
@_expires_option
@click.option("--forever", is_flag=True, help="Until it is revoked.")
@reaching
def adjust(
    user: str, grant_id: str, weight: int, expires: int | None, *, forever: bool, **reach: Any
) -> None:
    """Change the weight and the expiry of a grant in force."""
    if forever == (expires is not None):
        raise UsageError("say either --expires SECOND or --forever")
    body = GrantTermsBody(weight=str(weight), expires_second=expires)
    with _api(**reach) as api:
        changed = api.adjust(user, grant_id, body)
    if reach["as_json"]:
        print_json(changed)
    else:
        click.echo(f"{user} has weight {changed.weight_after} (position {changed.position:,})")


@command.command()
@click.argument("user")
@click.argument("grant_id", metavar="GRANT")
@reaching
def revoke(user: str, grant_id: str, **reach: Any) -> None:
    """End a grant in force; its id is not used again."""
    with _api(**reach) as api:
        changed = api.revoke(user, grant_id)
    if reach["as_json"]:
        print_json(changed)
    else:
        click.echo(f"{user} has weight {changed.weight_after} (position {changed.position:,})")


@command.command()
@click.argument("user")
@reaching
def show(user: str, **reach: Any) -> None:
    """Print a user's weight, share of the pool and grants."""
    with _api(**reach) as api:
        found = api.show(user)
    if reach["as_json"]:
        print_json(found)
    else:
        _print_contribution(found)


@command.command(name="import", short_help="Give the weights of a CSV file.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Check every line, apply nothing.")
@click.option("--partial", is_flag=True, help="Apply good lines though others cannot be read.")
@reaching
def import_(file: Path, *, dry_run: bool, partial: bool, **reach: Any) -> Exit:
    """Give the weights of a CSV file: user_id,grant_id,source,weight,expires (optional).

    Importing a file again changes nothing, so one that was cut off is simply imported again. Exit
    code 1 if any line is refused.
    """
    try:
        lines = read_grants(file.read_bytes(), lines_max=LINES_MAX)
    except Refusal as exc:
        raise UsageError(f"{file}: {exc.detail}") from exc
    if any(line.fault for line in lines) and not dry_run and not partial:
        results = [_unsent(line) for line in lines]
    else:
        with _api(**reach) as api:
            results = _imported(api, lines, dry_run=dry_run)
    if reach["as_json"]:
        print_json({"dry_run": dry_run, "outcomes": _counts(results), "lines": results})
    else:
        _print_report(results)
    return Exit.WRONG if _counts(results)["refused"] else Exit.OK


def _imported(api: ContributionApi, lines: Sequence[Line], *, dry_run: bool) -> list[ImportLine]:
    with open_progress() as tasks:
        told = tasks.task("check" if dry_run else "import", len(lines))
        return list(import_file(api, lines, dry_run=dry_run, told=told))


def _unsent(line: Line) -> ImportLine:
    if line.fault is not None:
        return refused_line(line)
    return ImportLine(
        line=line.number, outcome="not_applied", user_id=line.user_id, grant_id=line.grant_id
    )


def _counts(results: Sequence[ImportLine]) -> dict[LineOutcome, int]:
    counted = Counter(result.outcome for result in results)
    return {outcome: counted[outcome] for outcome in OUTCOMES}


def _print_report(results: Sequence[ImportLine]) -> None:
    refused = [result for result in results if result.outcome == "refused"]
    for result in refused[:SHOWN_MAX]:
        allowed = f" Allowed: {result.allowed}." if result.allowed else ""
        click.echo(f"line {result.line}: {result.code}: {result.detail}{allowed}")
    if len(refused) > SHOWN_MAX:
        click.echo(f"and {len(refused) - SHOWN_MAX:,} more; --json lists all")
    for outcome, count in _counts(results).items():
        if count:
            click.echo(f"{count:,} {OUTCOMES[outcome]}")


def _print_contribution(found: ContributionShown) -> None:
    share = f", {found.share.percent} % of the pool" if found.share else ""
    click.echo(f"{found.user_id}: weight {found.weight}{share}")
    for held in found.grants:
        ends = "" if held.expires_second is None else f"  until second {held.expires_second}"
        click.echo(f"  {held.grant_id:<24} {held.source:<16} {held.weight:>12}{ends}")


def _api(url: str | None, token: str | None, data: Path | None, **_: Any) -> ContributionApi:
    data_dir = find_stack(data)
    if token is None and not has_keys(data_dir):
        raise UsageError(f"no key to sign with in {data_dir.root}; pass a token with --token")

    def bearer() -> str:
        return token or sign_token(
            data_dir, user=OPERATOR, role="operator", lifetime_s=TOKEN_LIFETIME_S
        )

    return ContributionApi(url or _service_url(data_dir), bearer)


def _service_url(data_dir: DataDir) -> str:
    status = running_state(data_dir)
    if status is None:
        raise ServerUnavailable(f"nothing runs in {data_dir.root}; name a service with --url")
    for part in status.parts:
        if "contribution" in part.addresses:
            return part.addresses["contribution"]["url"]
    raise ServerUnavailable(f"no contribution service runs in {data_dir.root}")
