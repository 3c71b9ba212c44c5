"""`durian user`: accounts, made and changed by whoever runs the stack; the first admin too."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from gateway.access import ROLES, Role
from gateway.errors import DatabaseUnavailable, Refusal
from gateway.identity.accounts import Accounts, NewAccount
from gateway.identity.codes import Message, Outbox
from gateway.identity.names import is_user_id
from ops.commands.options import data_option, json_option
from ops.console import print_json
from ops.errors import ServerUnavailable, UsageError
from ops.identity_access import auth_config, identity
from schemas.wire_identity import Account

# Of the record: what an operator at the machine did, who has no account of their own.
CONSOLE = "console"
T = TypeVar("T")


@click.group()
def command() -> None:
    """Make, list and change accounts. WHO is a user id, user name, phone or e-mail."""


@command.command()
@click.option("--name", help="User name.")
@click.option("--phone", help="Phone number, such as +8613800000000.")
@click.option("--email", help="E-mail address.")
@click.option("--role", type=click.Choice(ROLES), default="user", show_default=True)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@data_option
@json_option
def create(
    name: str | None,
    phone: str | None,
    email: str | None,
    role: Role,
    data: Path | None,
    *,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Make an account; the first administrator comes from here."""
    if not (name or phone or email):
        raise UsageError("give --name, --phone or --email")
    new = NewAccount(user_name=name, phone=phone, email=email, password=_password(password_stdin))
    _show(_asked(data, lambda accounts: accounts.create(new, role=role, by=CONSOLE)), as_json)


@command.command("list")
@click.option("--role", type=click.Choice(ROLES), help="Only those.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True)
@click.option("--cursor", help="What the list before ended with.")
@data_option
@json_option
def list_command(
    role: Role | None, limit: int, cursor: str | None, data: Path | None, *, as_json: bool
) -> None:
    """Print accounts in the order of their registration."""
    page = _asked(data, lambda accounts: accounts.page(cursor=cursor, limit=limit, role=role))
    if as_json:
        print_json(page)
        return
    for account in page.items:
        click.echo(_line(account))
    if page.next_cursor:
        click.echo(f"there are more: --cursor {page.next_cursor}", err=True)


@command.command()
@click.argument("who")
@data_option
@json_option
def show(who: str, data: Path | None, *, as_json: bool) -> None:
    """Print one account."""
    _show(_asked(data, lambda accounts: _find(accounts, who)), as_json)


@command.command("role")
@click.argument("who")
@click.argument("role", type=click.Choice(ROLES))
@data_option
@json_option
def set_role(who: str, role: Role, data: Path | None, *, as_json: bool) -> None:
    """Give an account another role; its access tokens follow within ten minutes."""
    _show(_changed(data, who, lambda a, user: a.set_role(user, role, by=CONSOLE)), as_json)


@command.command()
@click.argument("who")
@data_option
@json_option
def disable(who: str, data: Path | None, *, as_json: bool) -> None:
    """Let nobody sign in to an account; its sessions end."""
    _show(_changed(data, who, lambda a, user: a.disable(user, by=CONSOLE)), as_json)


@command.command()
@click.argument("who")
@data_option
@json_option
def enable(who: str, data: Path | None, *, as_json: bool) -> None:
    """Let a disabled account be signed in to again."""
    _show(_changed(data, who, lambda a, user: a.enable(user, by=CONSOLE)), as_json)


@command.command()
@click.argument("who")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@json_option
def erase(who: str, data: Path | None, *, yes: bool, as_json: bool) -> None:
    """Forget who a user is; the ledger goes on under the id. It can't be undone."""
    if not yes:
        click.confirm(f"Erase everything that says who {who} is?", abort=True, err=True)
    _show(_changed(data, who, lambda a, user: a.erase(user, by=CONSOLE)), as_json)


@command.command()
@click.argument("who")
@click.option("--second-factor", is_flag=True, help="Remove the second factor as well.")
@data_option
@json_option
def reset(who: str, data: Path | None, *, second_factor: bool, as_json: bool) -> None:
    """Put a one-time code for a new password into the outbox."""

    async def change(accounts: Accounts, user_id: str) -> Account:
        if second_factor:
            await accounts.remove_second_factor(user_id, by=CONSOLE)
        await accounts.send_reset_code(user_id, by=CONSOLE)
        return await accounts.get(user_id)

    _show(_changed(data, who, change), as_json)


@command.command()
@data_option
@json_option
def outbox(data: Path | None, *, as_json: bool) -> None:
    """Print the codes that are to be handed over, and forget them."""

    async def take(accounts: Accounts) -> list[Message]:
        async with accounts.database.transaction() as connection:
            return await Outbox().take(connection, now_ms=accounts.now_ms())

    found = _asked(data, take)
    if as_json:
        print_json(found)
        return
    for message in found:
        until = datetime.fromtimestamp(message.expires_ms // 1_000, UTC)
        address = f"{message.channel} {message.address}"
        click.echo(f"{address}  {message.purpose}  {message.code}  until {until:%H:%M:%S} UTC")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    found: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return found


async def _find(accounts: Accounts, who: str) -> Account:
    return await (accounts.get(who) if is_user_id(who) else accounts.find(who))


def _changed(
    data: Path | None, who: str, change: Callable[[Accounts, str], Awaitable[Account]]
) -> Account:
    async def work(accounts: Accounts) -> Account:
        return await change(accounts, (await _find(accounts, who)).user_id)

    return _asked(data, work)


def _asked(data: Path | None, work: Callable[[Accounts], Awaitable[T]]) -> T:
    async def run() -> T:
        async with identity(auth_config(data), signs=False) as (accounts, _):
            return await work(accounts)

    try:
        return asyncio.run(run())
    except Refusal as exc:
        raise UsageError(f"{exc.detail} ({exc.code})") from exc
    except DatabaseUnavailable as exc:
        raise ServerUnavailable(f"the accounts' database does not answer: {exc}") from exc


def _show(account: Account, as_json: bool) -> None:
    if as_json:
        print_json(account)
        return
    fields: dict[str, Any] = msgspec.structs.asdict(account)
    for name, value in fields.items():
        if value is not None:
            click.echo(f"{name:<14}{value}")


def _line(account: Account) -> str:
    names = " ".join(name for name in (account.user_name, account.phone, account.email) if name)
    return f"{account.user_id}  {account.role:<8}  {account.state:<8}  {names}"
