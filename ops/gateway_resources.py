"""What the services of one process share, made from one Config and open as long as they run.

Each service gets what it needs and no more: accounts only where they are signed in or
administered, the desk only where withdrawals are asked for or decided.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import msgspec

from gateway.access_log import access_log
from gateway.auth import TokenVerifier
from gateway.catalogue import Catalogue
from gateway.engine_client import EngineClient, EngineTimes
from gateway.limits import Limits, Rates
from gateway.metrics import GatewayMetrics
from gateway.ports import Resources
from gateway.surrounding import Around
from gateway.views import Views
from gateway.withdrawing import Withdrawing, sweeping
from ops.config import Config, require
from ops.desk_access import desk
from ops.errors import UsageError
from ops.history_reads import history_reads
from ops.identity_access import identity
from ops.leader import leader_locator
from ops.log_reads import log_reads
from ops.parts_health import StackParts

ACCOUNTS_USED_BY = frozenset({"auth", "admin"})
DESK_USED_BY = frozenset({"trading", "admin"})


def token_verifier(path: str) -> TokenVerifier:
    """Raises UsageError when the file is missing or holds no Ed25519 public key."""
    try:
        return TokenVerifier.from_file(Path(path), now_second)
    except (OSError, ValueError) as exc:
        raise UsageError(f"DURIAN_TOKEN_PUBLIC_KEY: {exc}") from exc


def now_second() -> int:
    """Unix, of the wall clock."""
    return int(time.time())


@contextlib.asynccontextmanager
async def gateway_resources(
    config: Config, services: Collection[str], times: EngineTimes | None = None
) -> AsyncIterator[Resources]:
    """times: of the connection to the engine, None for the usual."""
    async with contextlib.AsyncExitStack() as stack:
        locate = await stack.enter_async_context(leader_locator(config))
        engine = EngineClient(locate=locate, times=times)
        views = Views(require(config, "redis_url"))
        stack.push_async_callback(views.close)
        found = Resources(
            views=views,
            catalogue=Catalogue(views),
            engine=engine,
            tokens=token_verifier(require(config, "token_public_key")),
            metrics=GatewayMetrics(engine.is_connected),
            now_second=now_second,
            history=await stack.enter_async_context(history_reads(config)),
            log=await stack.enter_async_context(log_reads(config)),
        )
        if ACCOUNTS_USED_BY.intersection(services):
            accounts, sign_in = await stack.enter_async_context(
                identity(config, signs="auth" in services)
            )
            found = msgspec.structs.replace(found, accounts=accounts, sign_in=sign_in)
        # Trading does without where no desk is configured; only its withdrawals notice.
        if DESK_USED_BY.intersection(services) and (config.desk_url or "admin" in services):
            found = msgspec.structs.replace(
                found, desk=await stack.enter_async_context(desk(config))
            )
        if "admin" in services:
            found = msgspec.structs.replace(found, parts=StackParts(config))
        await stack.enter_async_context(engine.running())
        if "trading" in services and found.desk is not None:
            flow = Withdrawing(found.desk.withdrawals, engine, found.catalogue)
            await stack.enter_async_context(sweeping(flow))
        yield found


def around(config: Config) -> Around:
    """What surrounds every service of a process; made once, so that they share limits and log."""
    rates = Rates.per_second(
        user=config.requests_user, staff=config.requests_staff, address=config.requests_address
    )
    target = "" if config.access_log == "none" else config.access_log
    return Around(
        origins=config.origins.replace(",", " ").split(),
        limits=Limits(rates),
        access_log=access_log(target, now=time.time, part=config.part),
    )
