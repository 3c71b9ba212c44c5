"""How often one address may try to sign in, register or ask for codes: counted in Redis, DB 14.

Without Redis nobody is kept out: the delays in PostgreSQL go on slowing guesses.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, cast

import redis
from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from gateway.errors import Refusal
from schemas.wire import WireCode

logger = logging.getLogger(__name__)

AUTH_DB: Final = 14
Kind = Literal["sign_in", "register", "code"]
# Many people can share an address, behind one household's or a whole carrier's gate.
DEFAULT_LIMITS: Final[Mapping[Kind, str]] = {
    "sign_in": "120/minute",
    "register": "60/minute",
    "code": "60/minute",
}
_ANSWER_SECONDS: Final = 1.0


class ClientLimits:
    """close() at the end. Needs no Redis to begin with."""

    def __init__(
        self,
        redis_url: str,
        now_second: Callable[[], int],
        limits: Mapping[Kind, str] = DEFAULT_LIMITS,
    ) -> None:
        """redis_url: without a database. limits: "N/second", "N/minute", "N/hour" of each kind; a
        kind that is not there has none.
        """
        self._storage = RedisStorage(
            f"async+{redis_url.rstrip('/')}/{AUTH_DB}",
            implementation="redispy",
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
        )
        self._now_second = now_second
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)
        self._limits: dict[Kind, RateLimitItem] = {
            kind: parse(text) for kind, text in limits.items()
        }

    async def close(self) -> None:
        await cast(Any, self._storage.bridge).storage.aclose()

    async def check(self, kind: Kind, client: str) -> None:
        """Count one request. Raises Refusal(too_many_requests) beyond the limit."""
        limit = self._limits.get(kind)
        if limit is None:
            return
        try:
            if await self._limiter.hit(limit, kind, client):
                return
            stats = await self._limiter.get_window_stats(limit, kind, client)
        except redis.RedisError as exc:
            logger.warning("Redis does not answer; limits of addresses are not kept: %s", exc)
            return
        wait = min(max(math.ceil(stats.reset_time - self._now_second()), 1), limit.get_expiry())
        raise Refusal(
            WireCode.TOO_MANY_REQUESTS,
            "Too many requests of this kind come from your address.",
            {"limit": str(limit)},
            retry_after=wait,
        )
