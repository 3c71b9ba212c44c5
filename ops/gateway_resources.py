"""What the services of one process share, made from one Config and open as long as they run.

Each service gets what it needs and no more: accounts only where they are signed in or
administered, the desk only where withdrawals are asked for or decided.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Coroutine
from pathlib import Path
from typing import Any

import msgspec

from gateway.access_log import access_log
from gateway.administration.execution import finish_intents
from gateway.auth import TokenVerifier
from gateway.cancelling import end_all
from gateway.catalogue import Catalogue
from gateway.engine_client import EngineClient, EngineTimes
from gateway.limits import Limits, Rates
from gateway.metrics import GatewayMetrics
from gateway.ports import Resources
from gateway.surrounding import Around
from gateway.views import Views
from gateway.withdrawing import Withdrawing
from ops.config import Config, require
from ops.desk_access import desk
from ops.errors import UsageError
from ops.history_reads import history_reads
from ops.identity_access import identity
from ops.leader import leader_locator
from ops.log_reads import log_reads
from ops.parts_health import StackParts

ACCOUNTS_USED_BY = frozenset({"auth", "admin"})
# For withdrawals, and for the record of what staff do.
DESK_USED_BY = frozenset({"contribution", "mining", "trading", "admin"})


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
        # Without a desk there are no withdrawals, and nothing is recorded of what staff do.
        if DESK_USED_BY.intersection(services) and (config.desk_url or "admin" in services):
            found = msgspec.structs.replace(
                found, desk=await stack.enter_async_context(desk(config))
            )
        if "admin" in services:
            found = msgspec.structs.replace(found, parts=StackParts(config))
        await stack.enter_async_context(engine.running())
        yield found


@contextlib.asynccontextmanager
async def unending_works(
    resources: Resources, services: Collection[str]
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """What carries on, as long as the block lasts, with what a killed process began.

    Whoever opens it ends when one of them does: they are not supposed to.
    """
    works: list[Coroutine[Any, Any, None]] = []
    if "trading" in services and resources.desk is not None:
        desk = resources.desk
        flow = Withdrawing(desk.withdrawals, resources.engine, resources.catalogue.scale)
        works.append(flow.keep_sweeping())
    if "admin" in services:
        works.append(finish_intents(resources))
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield tasks
    finally:
        await end_all(tasks)


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
