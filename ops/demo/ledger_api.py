"""The HTTP API as the demo's users call it: signed tokens, keep-alive, patience.

A refusal comes back as a value (Problem). A service that is away is waited for with jittered
back-off and asked again under the same Idempotency-Key, so that the effect stays single.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal, TypeVar

import httpx
import msgspec

from ops.backoff import Backoff
from ops.config import Config
from ops.datadir import DataDir
from ops.tokens import sign_token
from schemas.publications import AssetBalance, Ticker
from schemas.wire import (
    CancelResult,
    DepositBody,
    DepositResult,
    GrantResult,
    Market,
    MiningShare,
    OrderResult,
    Page,
    PlaceOrderBody,
    Problem,
    SettleResult,
)
from schemas.wire_mining import GrantBody

REQUEST_TIMEOUT_S = 10.0
CONNECTIONS_MAX = 32
TOKEN_LIFETIME_S = 3_600
TOKEN_RENEW_S = 600
KEY_BYTES = 16
OPERATOR = "demo-operator"
JSON = {"content-type": "application/json"}
# Whoever is told so asks again later; any other refusal is an answer.
_LATER = HTTPStatus.TOO_MANY_REQUESTS

Service = Literal["contribution", "mining", "trading"]
T = TypeVar("T")
log = logging.getLogger("durian")


class Tokens:
    """Bearer tokens by user, signed with the data directory's key and renewed before they end."""

    def __init__(self, data_dir: DataDir) -> None:
        self._data_dir = data_dir
        self._signed: dict[str, tuple[str, float]] = {}

    def header(self, user: str) -> dict[str, str]:
        token, renew_at = self._signed.get(user, ("", 0.0))
        if time.monotonic() >= renew_at:
            role = "operator" if user == OPERATOR else "user"
            token = sign_token(self._data_dir, user=user, role=role, lifetime_s=TOKEN_LIFETIME_S)
            renew_at = time.monotonic() + TOKEN_LIFETIME_S - TOKEN_RENEW_S
            self._signed[user] = (token, renew_at)
        return {"authorization": f"Bearer {token}"}

    def forget(self, user: str) -> None:
        self._signed.pop(user, None)


class LedgerApi:
    """An async context manager. on_trouble: told what is waited for, and "" once it answers."""

    def __init__(
        self,
        config: Config,
        *,
        rng: random.Random,
        on_trouble: Callable[[str], None],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._rng = rng
        self._on_trouble = on_trouble
        self._tokens = Tokens(DataDir(config.data_dir))
        self._places: dict[Service, str] = {
            "contribution": f"http://{config.host}:{config.ports.contribution}",
            "mining": f"http://{config.host}:{config.ports.mining}",
            "trading": f"http://{config.host}:{config.ports.trading}",
        }
        self._client = httpx.AsyncClient(
            timeout=REQUEST_TIMEOUT_S,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
            transport=transport,
            trust_env=False,  # a proxy for the outside world does not know our loopback
        )

    async def __aenter__(self) -> "LedgerApi":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def markets(self) -> tuple[Market, ...]:
        """Waits until there is one: on a young ledger the views are still empty."""
        backoff = Backoff(self._rng)
        while True:
            page = await self._ask(Page[Market], "GET", "trading", "/v1/markets")
            if not isinstance(page, Problem) and page.items:
                self._on_trouble("")
                return page.items
            self._on_trouble("the first market")
            await asyncio.sleep(backoff.next_s())

    async def ticker(self, market: str) -> Ticker | Problem:
        return await self._ask(Ticker, "GET", "trading", f"/v1/ticker?market={market}")

    async def balances(self, user: str) -> tuple[AssetBalance, ...]:
        page = await self._ask(Page[AssetBalance], "GET", "trading", "/v1/balances", user=user)
        return () if isinstance(page, Problem) else page.items

    async def grant(self, body: GrantBody) -> GrantResult | Problem:
        return await self._ask(
            GrantResult, "POST", "contribution", "/v1/contributions", user=OPERATOR, body=body
        )

    async def deposit(self, body: DepositBody) -> DepositResult | Problem:
        return await self._ask(
            DepositResult, "POST", "trading", "/v1/deposits", user=OPERATOR, body=body
        )

    async def place(self, user: str, body: PlaceOrderBody) -> OrderResult | Problem:
        return await self._ask(OrderResult, "POST", "trading", "/v1/orders", user=user, body=body)

    async def cancel(self, user: str, order_id: int) -> CancelResult | Problem:
        return await self._ask(
            CancelResult, "DELETE", "trading", f"/v1/orders/{order_id}", user=user
        )

    async def share(self, user: str) -> MiningShare | Problem:
        return await self._ask(MiningShare, "GET", "mining", "/v1/mining/me", user=user)

    async def settle(self, user: str) -> SettleResult | Problem:
        return await self._ask(SettleResult, "POST", "mining", "/v1/mining/settle", user=user)

    async def _ask(
        self,
        kind: type[T],
        method: str,
        service: Service,
        path: str,
        *,
        user: str = "",
        body: msgspec.Struct | None = None,
    ) -> T | Problem:
        backoff, waited = Backoff(self._rng), False
        # Not from rng: a repeated seed means the same choices, never the same commands.
        key = {} if method == "GET" else {"idempotency-key": secrets.token_hex(KEY_BYTES)}
        while True:
            trouble = ""
            try:
                response = await self._client.request(
                    method,
                    self._places[service] + path,
                    headers={
                        **key,
                        **(JSON if body is not None else {}),
                        **(self._tokens.header(user) if user else {}),
                    },
                    content=None if body is None else msgspec.json.encode(body),
                )
            except httpx.TransportError as error:
                trouble = type(error).__name__
            else:
                if response.is_success:
                    if waited:
                        self._on_trouble("")
                    return msgspec.json.decode(response.content, type=kind)
                problem = _problem(response)
                if response.status_code == HTTPStatus.UNAUTHORIZED:
                    self._tokens.forget(user)
                elif not response.is_server_error and response.status_code != _LATER:
                    return problem
                trouble = problem.code
            log.debug("%s %s: %s", method, path, trouble)
            waited = True
            self._on_trouble(f"{service} ({trouble})")
            await asyncio.sleep(backoff.next_s())


def _problem(response: httpx.Response) -> Problem:
    # A proxy or a dying server may answer without one of ours.
    try:
        return msgspec.json.decode(response.content, type=Problem)
    except msgspec.DecodeError:
        status = response.status_code
        return Problem(
            title=response.reason_phrase, status=status, code=f"http_{status}", detail=""
        )
