"""Two people of the demo who sign in as anybody does: a user and an operator.

Their passwords are made once for each data directory and lie there, readable by its owner. The
other users of the demo never sign in: they carry tokens that are signed for them.
"""

import contextlib
import logging
import random
import secrets
from collections.abc import Sequence

import msgspec

from gateway.access import Role
from gateway.errors import Refusal
from gateway.identity.accounts import Accounts, NewAccount
from ops.config import Config
from ops.datadir import DataDir, write_atomic
from ops.demo.ledger_api import LedgerApi
from ops.identity_access import identity
from schemas.wire import DepositBody, Market, Problem, WireCode
from schemas.wire_mining import GrantBody

FILE_NAME = "demo-people.json"
PASSWORD_BYTES = 12
WEIGHT = 100
FUNDS_QUOTE = "1000"
GRANT, SOURCE = "demo-person", "demo"

log = logging.getLogger("durian")


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Who can sign in, and as what."""

    user_name: str
    password: str
    role: Role


def people_of(data_dir: DataDir) -> tuple[Person, ...]:
    """Those of this directory; the first call makes their passwords."""
    path = data_dir.root / FILE_NAME
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=tuple[Person, ...])
    roles: dict[str, Role] = {"demo": "user", "desk": "operator"}
    made = tuple(
        Person(user_name=name, password=secrets.token_urlsafe(PASSWORD_BYTES), role=role)
        for name, role in roles.items()
    )
    write_atomic(path, msgspec.json.format(msgspec.json.encode(made)), mode=0o600)
    return made


async def enrol(accounts: Accounts, person: Person) -> str:
    """The user id of a person, who has an account from now on.

    Raises Refusal, DatabaseUnavailable.
    """
    new = NewAccount(user_name=person.user_name, password=person.password)
    try:
        return (await accounts.create(new, role=person.role, by="demo")).user_id
    except Refusal as refusal:
        if refusal.code != WireCode.NAME_TAKEN:
            raise
    return (await accounts.find(person.user_name)).user_id


async def give_a_start(api: LedgerApi, user_id: str, market: Market) -> str:
    """Money and a weight in mining, once; what was refused and why, "" if nothing was."""
    deposit = DepositBody(
        user_id=user_id,
        asset=market.quote_asset,
        amount=FUNDS_QUOTE,
        reference=f"{GRANT}-{user_id}",
    )
    grant = GrantBody(user_id=user_id, grant_id=GRANT, source=SOURCE, weight=WEIGHT)
    for answer in (await api.deposit(deposit), await api.grant(grant)):
        if isinstance(answer, Problem) and not answer.code.startswith("duplicate_"):
            return answer.code
    return ""


async def settle_in(config: Config, people: Sequence[Person]) -> None:
    """Accounts for all, and something to trade with for the first; done once, whoever asks.

    config: of the running stack, with the accounts' URL. Raises Refusal, DatabaseUnavailable.
    """
    async with contextlib.AsyncExitStack() as stack:
        accounts, _ = await stack.enter_async_context(identity(config, signs=False))
        api = LedgerApi(config, rng=random.Random(), on_trouble=lambda _: None)
        await stack.enter_async_context(api)
        user_ids = [await enrol(accounts, person) for person in people]
        (market, *_) = await api.markets()
        refused = await give_a_start(api, user_ids[0], market)
        if refused:
            log.warning("%s got no start: %s", people[0].user_name, refused)


def sign_in_lines(people: Sequence[Person], auth_url: str) -> list[str]:
    """How to become one of them, for the terminal."""
    rows = [
        (msgspec.json.encode({"login": person.user_name, "password": person.password}), person.role)
        for person in people
    ]
    return [
        f"sign in: POST {auth_url}/v1/login",
        *(f"  {body.decode():<60} {role}" for body, role in rows),
    ]
