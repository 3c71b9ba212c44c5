"""Where the live view's picture comes from: the stream, and a few reads over HTTP beside it.

Both go on for good: a service that is away is tried again with jittered back-off, and the stream
resumes each channel after the last publication it had (ops.stream).
"""

import asyncio
import random
import time
from typing import TypeVar

import httpx
import msgspec

from ops.backoff import Backoff
from ops.config import Config
from ops.datadir import DataDir
from ops.errors import ServerUnavailable
from ops.live.picture import CANDLES_MAX, KLINE_INTERVAL, Picture, channels_of
from ops.stream.client import StreamClient
from ops.stream.errors import StreamFault, StreamRefused
from ops.stream.following import Change
from ops.stream.link import together
from ops.tokens import has_keys, sign_token
from schemas.publications import Kline
from schemas.wire import (
    ContributionSummary,
    Market,
    MiningShare,
    Page,
    Pub,
    Snapshot,
    WireCode,
)

READ_TIMEOUT_S = 5.0
POLL_S = 2.0
MARKETS_POLL_S = 10.0
CANDLES_POLL_S = 0.25
SHARE_LIFE_S = 10.0
TOP_MINERS = 12
AUDITOR = "demo-view"
TOKEN_LIFETIME_S = 24 * 3_600
TOKEN_RENEW_S = 3_600

T = TypeVar("T")


class Reader:
    """Reads over HTTP; an async context manager. None: no answer, or not one of use."""

    def __init__(self, config: Config) -> None:
        self._data_dir = DataDir(config.data_dir)
        self._host, self._ports = config.host, config.ports
        self._token = ""
        self._token_until_s = 0.0
        # A proxy for the outside world does not know our loopback.
        self._client = httpx.AsyncClient(timeout=READ_TIMEOUT_S, trust_env=False)

    async def __aenter__(self) -> "Reader":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def markets(self) -> tuple[Market, ...]:
        page = await self._get(Page[Market], self._ports.trading, "/v1/markets")
        return page.items if page else ()

    async def candles(self, market: str) -> tuple[Kline, ...] | None:
        path = f"/v1/klines?market={market}&interval={KLINE_INTERVAL}&limit={CANDLES_MAX}"
        page = await self._get(Page[Kline], self._ports.trading, path)
        return page.items if page else None

    async def summary(self) -> ContributionSummary | None:
        path = f"/v1/contributions/summary?limit={TOP_MINERS}"
        return await self._get(ContributionSummary, self._ports.contribution, path)

    async def share(self, user_id: str) -> MiningShare | None:
        """Only where this machine holds the stack's key, and so may sign an auditor's token."""
        if not has_keys(self._data_dir):
            return None
        if time.monotonic() >= self._token_until_s:
            self._token = sign_token(
                self._data_dir, user=AUDITOR, role="auditor", lifetime_s=TOKEN_LIFETIME_S
            )
            self._token_until_s = time.monotonic() + TOKEN_LIFETIME_S - TOKEN_RENEW_S
        path = f"/v1/mining/me?user_id={user_id}"
        return await self._get(MiningShare, self._ports.mining, path, token=self._token)

    async def _get(self, kind: type[T], port: int, path: str, *, token: str = "") -> T | None:
        headers = {"authorization": f"Bearer {token}"} if token else None
        try:
            response = await self._client.get(f"http://{self._host}:{port}{path}", headers=headers)
        except httpx.TransportError:
            return None
        if not response.is_success:
            return None
        return msgspec.json.decode(response.content, type=kind)


async def follow_stream(config: Config, picture: Picture, reader: Reader) -> None:
    """Keep the picture up to date from /v1/stream.

    Raises ServerUnavailable if the gateway tells us not to come back.
    """
    url = f"ws://{config.host}:{config.ports.stream}/v1/stream"
    backoff = Backoff(random.Random())
    try:
        async with StreamClient(url, backoff=backoff) as client:
            await together(_show(client, picture), _subscribe(client, picture, reader))
    except StreamFault as fault:
        raise ServerUnavailable(str(fault)) from fault


async def _show(client: StreamClient, picture: Picture) -> None:
    async for change in client:
        apply(change, picture)


async def _subscribe(client: StreamClient, picture: Picture, reader: Reader) -> None:
    """To every market there is, and to those that come to be known later."""
    backoff, subscribed = Backoff(random.Random()), frozenset[str]()
    while True:
        picture.set_markets(await reader.markets())
        if picture.markets.keys() > subscribed:
            markets = tuple(picture.markets)
            try:
                await client.subscribe(*channels_of(markets))
            except StreamRefused as refused:
                if refused.code != WireCode.UNKNOWN_CHANNEL:
                    raise
                picture.trouble = refused.reason
            else:
                subscribed = frozenset(markets)
                backoff.reset()
        elif not picture.markets:
            picture.trouble = "no market answers yet"
        await asyncio.sleep(MARKETS_POLL_S if subscribed else backoff.next_s())


def apply(change: Change, picture: Picture) -> None:
    """Show one change; of a state that is sent in parts, all that is known by now."""
    shown = change.data if change.state is None else change.state
    data = msgspec.Raw(msgspec.json.encode(shown))
    match change.kind:
        case "lost":
            picture.trouble = change.data
            if picture.link == "live":
                picture.link = "reconnecting"
            return
        case "stale":
            picture.trouble = "what is shown may be old"
            return
        case "snapshot":
            picture.apply_snapshot(
                Snapshot(ch=change.channel, epoch=change.epoch, offset=change.offset, data=data)
            )
        case "publication":
            picture.apply_publication(Pub(ch=change.channel, offset=change.offset, data=data))
        case "recovered" | "fresh":
            pass
    picture.link, picture.trouble = "live", ""


async def poll_miners(picture: Picture, reader: Reader) -> None:
    """The heaviest miners every POLL_S; each one's share when its weight changes or grows old."""
    read_at: dict[str, float] = {}
    while True:
        summary = await reader.summary()
        if summary is not None:
            picture.set_summary(summary)
        for miner in picture.top:
            share, now_s = picture.shares.get(miner.user_id), time.monotonic()
            age_s = now_s - read_at.get(miner.user_id, 0.0)
            if share is not None and share.weight == miner.weight and age_s < SHARE_LIFE_S:
                continue
            fresh = await reader.share(miner.user_id)
            if fresh is not None:
                picture.shares[miner.user_id], read_at[miner.user_id] = fresh, now_s
        for user_id in picture.shares.keys() - {miner.user_id for miner in picture.top}:
            del picture.shares[user_id]
        await asyncio.sleep(POLL_S)


async def fill_candles(picture: Picture, reader: Reader) -> None:
    """Fetch closed candles for each market that misses them."""
    while True:
        for name, market in tuple(picture.markets.items()):
            if not market.misses_candles:
                continue
            # Cleared first: a snapshot that comes while we read asks for another reading.
            market.misses_candles = False
            candles = await reader.candles(name)
            if candles is None:
                market.misses_candles = True
            else:
                market.add_candles(candles)
        await asyncio.sleep(CANDLES_POLL_S)
