"""Builds what knows the accounts from one Config: for services and for commands."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from gateway.database import Database
from gateway.identity.accounts import Accounts
from gateway.identity.client_limits import DEFAULT_LIMITS, ClientLimits
from gateway.identity.passwords import Passwords
from gateway.identity.schema import ROLE
from gateway.identity.sign_in import SignIn
from gateway.identity.signing import SECRET_FILE, Signer
from ops.commands.options import find_stack
from ops.config import Config, load_config, require
from ops.datadir import load_secrets
from ops.errors import ServerUnavailable, UsageError
from ops.servers import postgres
from ops.service_databases import auth_url_beside
from ops.status import running_state
from schemas.wire import WireCode


@contextlib.asynccontextmanager
async def identity(config: Config, *, signs: bool) -> AsyncIterator[tuple[Accounts, SignIn | None]]:
    """signs: build SignIn too, which needs DURIAN_TOKEN_KEYS and DURIAN_REDIS_URL.

    Nothing needs to answer yet. Raises UsageError for keys that can't be read.
    """
    async with contextlib.AsyncExitStack() as stack:
        database = Database(require(config, "auth_url"), WireCode.ACCOUNTS_UNAVAILABLE)
        await database.open()
        stack.push_async_callback(database.close)
        passwords = Passwords()
        stack.callback(passwords.close)
        accounts = Accounts(database, passwords=passwords, now_ms=_now_ms)
        if not signs:
            yield accounts, None
            return
        sign_in = _sign_in(config, accounts, passwords)
        stack.push_async_callback(sign_in.limits.close)
        stack.push_async_callback(sign_in.later.finish)
        yield accounts, sign_in


def auth_config(data: Path | None) -> Config:
    """The configuration with the accounts' URL: of the environment, or of a running stack.

    Raises ServerUnavailable if there is neither.
    """
    config = load_config()
    if config.auth_url:
        return config
    if config.postgres_url:
        return msgspec.structs.replace(config, auth_url=auth_url_beside(config.postgres_url))
    data_dir = find_stack(data)
    status = running_state(data_dir)
    if status is None:
        raise ServerUnavailable(
            f"nothing runs in {data_dir.root}, and DURIAN_AUTH_URL is unset;"
            " start a stack with `durian up`"
        )
    addresses = {name: found for part in status.parts for name, found in part.addresses.items()}
    url = auth_url_beside(addresses["postgres"]["url"])
    return msgspec.structs.replace(
        config,
        data_dir=data_dir.root,
        auth_url=postgres.with_role(url, role=ROLE, password=load_secrets(data_dir).auth),
    )


def _sign_in(config: Config, accounts: Accounts, passwords: Passwords) -> SignIn:
    directory = Path(require(config, "token_keys"))
    try:
        signer = Signer(directory, _now_second)
        server_secret = (directory / SECRET_FILE).read_bytes()
    except (OSError, ValueError) as exc:
        raise UsageError(f"DURIAN_TOKEN_KEYS: {exc}") from exc
    return SignIn(
        accounts,
        passwords=passwords,
        signer=signer,
        server_secret=server_secret,
        limits=ClientLimits(
            require(config, "redis_url"),
            _now_second,
            # Whoever has lifted the limit of all requests of an address means these too.
            DEFAULT_LIMITS if config.requests_address else {},
        ),
        now_ms=_now_ms,
        staff_needs_second_factor=config.staff_second_factor,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _now_second() -> int:
    return int(time.time())
