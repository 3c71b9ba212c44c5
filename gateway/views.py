"""Reads of the views in Redis; each method is one atomic step. Never writes.

Everything above this file sees structs of schemas.views and, if Redis fails, ViewsUnavailable.
"""

import contextlib
from collections.abc import Iterator, Sequence

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from gateway.errors import ViewsUnavailable
from schemas import views
from schemas.effects import partition_of
from schemas.records import POSTINGS_PARTITIONS
from schemas.views import (
    AccountView,
    AssetView,
    BurnMinute,
    Candle,
    ContributionView,
    MarketView,
    PoolView,
    TickerView,
    TradeView,
)

CONNECTIONS_MAX = 32
CONNECT_SECONDS_MAX = 2.0
ANSWER_SECONDS_MAX = 5.0
# Of the feed's entries at most every second one is of another channel.
PULSE_SEARCHED_MAX = 8

_account = msgspec.json.Decoder(AccountView).decode
_asset = msgspec.json.Decoder(AssetView).decode
_burn_minute = msgspec.json.Decoder(BurnMinute).decode
_candle = msgspec.json.Decoder(Candle).decode
_contribution = msgspec.json.Decoder(ContributionView).decode
_market = msgspec.json.Decoder(MarketView).decode
_pool = msgspec.json.Decoder(PoolView).decode
_ticker = msgspec.json.Decoder(TickerView).decode
_trade = msgspec.json.Decoder(TradeView).decode


class Versioned(msgspec.Struct, frozen=True, kw_only=True):
    """Where a read stood. epoch: None while no projection has written. offset: of one channel."""

    epoch: str | None
    offset: int


class AccountState(msgspec.Struct, frozen=True, kw_only=True):
    """One user; empty views for a user without any event."""

    account: AccountView
    contribution: ContributionView
    epoch: str | None


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns the driver's exceptions into ours."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as exc:
        raise ViewsUnavailable(str(exc)) from exc


class Views:
    """One pool of connections per database. Close with close()."""

    def __init__(self, url: str) -> None:
        self._databases = {
            number: Redis(
                connection_pool=BlockingConnectionPool.from_url(
                    url,
                    db=number,
                    max_connections=CONNECTIONS_MAX,
                    timeout=ANSWER_SECONDS_MAX,
                    socket_connect_timeout=CONNECT_SECONDS_MAX,
                    socket_timeout=ANSWER_SECONDS_MAX,
                )
            )
            for number in (views.CONTRIBUTION_DB, views.MINING_DB, views.TRADING_DB)
        }

    async def close(self) -> None:
        for database in self._databases.values():
            await database.aclose()
            await database.connection_pool.disconnect()

    def home(self, projection: str) -> Redis:
        """The client of the database in which a projection keeps its checkpoint and feed."""
        return self._databases[views.HOME_DB[projection]]

    async def ping(self) -> None:
        with translated():
            async with self._databases[views.TRADING_DB].pipeline(transaction=False) as pipe:
                pipe.ping()
                await pipe.execute()

    async def assets_and_markets(self) -> tuple[dict[str, AssetView], dict[str, MarketView]]:
        with translated():
            async with self._transaction(views.TRADING_DB) as pipe:
                pipe.hgetall(views.ASSETS_KEY)
                pipe.hgetall(views.MARKETS_KEY)
                assets, markets = await pipe.execute()
        return (
            {key.decode(): _asset(text) for key, text in assets.items()},
            {key.decode(): _market(text) for key, text in markets.items()},
        )

    async def account(self, user_id: str) -> AccountState:
        partition = partition_of_accounts(user_id)
        with translated():
            async with self._transaction(views.TRADING_DB) as pipe:
                pipe.hget(views.checkpoint_key(views.ACCOUNTS, partition), "epoch")
                pipe.get(views.account_key(user_id))
                # One step over two databases; the last SELECT leaves the connection as it was.
                pipe.execute_command("SELECT", views.CONTRIBUTION_DB)
                pipe.get(views.contribution_key(user_id))
                pipe.execute_command("SELECT", views.TRADING_DB)
                epoch, account, _, contribution, _ = await pipe.execute()
        return AccountState(
            account=_account(account) if account else AccountView(user_id=user_id, balances={}),
            contribution=(
                _contribution(contribution) if contribution else ContributionView(user_id=user_id)
            ),
            epoch=epoch.decode() if epoch else None,
        )

    async def pool(self) -> tuple[PoolView | None, Versioned]:
        """The mining pool; the offset is that of channel mining."""
        with translated():
            async with self._transaction(views.MINING_DB) as pipe:
                pipe.hget(views.checkpoint_key(views.MINING, 0), "epoch")
                pipe.hget(views.offsets_key(views.MINING), "mining")
                pipe.get(views.POOL_KEY)
                epoch, offset, pool = await pipe.execute()
        return (_pool(pool) if pool else None), _versioned(epoch, offset)

    async def newest_pulse(self) -> tuple[str | None, tuple[int, bytes] | None]:
        """The epoch, and offset and wire JSON of the last pulse: its view is the feed itself."""
        with translated():
            async with self._transaction(views.MINING_DB) as pipe:
                pipe.hget(views.checkpoint_key(views.MINING, 0), "epoch")
                pipe.xrevrange(views.feed_key(views.MINING, 0), count=PULSE_SEARCHED_MAX)
                epoch, newest_first = await pipe.execute()
        found = (
            (int(fields[b"offset"]), fields[b"data"])
            for _, fields in newest_first
            if fields[b"ch"] == b"pulse"
        )
        return (epoch.decode() if epoch else None), next(found, None)

    async def ticker(self, market_id: str) -> tuple[TickerView | None, Versioned]:
        with translated():
            async with self._market_read(f"ticker.{market_id}") as pipe:
                pipe.get(views.ticker_key(market_id))
                epoch, offset, ticker = await pipe.execute()
        return (_ticker(ticker) if ticker else None), _versioned(epoch, offset)

    async def trades(self, market_id: str, count: int) -> tuple[list[TradeView], Versioned]:
        """The newest `count`, oldest of them first."""
        with translated():
            async with self._market_read(f"trades.{market_id}") as pipe:
                pipe.lrange(views.trades_key(market_id), 0, count - 1)
                epoch, offset, newest_first = await pipe.execute()
        return [_trade(text) for text in reversed(newest_first)], _versioned(epoch, offset)

    async def candles(
        self, market_id: str, interval: str, open_seconds: Sequence[int]
    ) -> tuple[list[Candle], Versioned]:
        """Those of the named candles that exist, in the order asked for."""
        found, versioned = await self._fields(
            f"kline.{market_id}.{interval}", views.kline_key(market_id, interval), open_seconds
        )
        return [_candle(text) for text in found], versioned

    async def burn_minutes(
        self, market_id: str, open_seconds: Sequence[int]
    ) -> tuple[list[BurnMinute], Versioned]:
        """Those of the named minutes that exist, in the order asked for."""
        found, versioned = await self._fields(
            f"burns.{market_id}", views.burns_key(market_id), open_seconds
        )
        return [_burn_minute(text) for text in found], versioned

    async def weeks(self, market_id: str) -> list[int]:
        """Open seconds of the market's weekly candles, oldest first; one for each week it lived."""
        with translated():
            async with self._transaction(views.TRADING_DB) as pipe:
                pipe.hkeys(views.kline_key(market_id, "1w"))
                (fields,) = await pipe.execute()
        return sorted(int(field) for field in fields)

    async def top_weights(self, count: int) -> tuple[int, list[ContributionView]]:
        """How many users are ranked, and the heaviest, exact weights, heaviest first."""
        with translated():
            database = self._databases[views.CONTRIBUTION_DB]
            async with database.pipeline(transaction=True) as pipe:
                pipe.zcount(views.WEIGHTS_KEY, "(0", "+inf")
                pipe.zrevrange(views.WEIGHTS_KEY, 0, count - 1)
                ranked, user_ids = await pipe.execute()
            keys = [views.contribution_key(user_id.decode()) for user_id in user_ids]
            texts = await database.mget(keys) if keys else []
        found = [_contribution(text) for text in texts if text]
        found.sort(key=lambda view: (-view.weight, view.user_id))
        return ranked, [view for view in found if view.weight > 0]

    async def _fields(
        self, channel: str, key: str, open_seconds: Sequence[int]
    ) -> tuple[list[bytes], Versioned]:
        if not open_seconds:
            return [], Versioned(epoch=None, offset=0)
        with translated():
            async with self._market_read(channel) as pipe:
                pipe.hmget(key, [str(second) for second in open_seconds])
                epoch, offset, texts = await pipe.execute()
        return [text for text in texts if text is not None], _versioned(epoch, offset)

    def _market_read(self, channel: str) -> Pipeline:
        pipe = self._transaction(views.TRADING_DB)
        pipe.hget(views.checkpoint_key(views.MARKET, 0), "epoch")
        pipe.hget(views.offsets_key(views.MARKET), channel)
        return pipe

    def _transaction(self, number: int) -> Pipeline:
        return self._databases[number].pipeline(transaction=True)


def partition_of_accounts(user_id: str) -> int:
    """The accounts checkpoint and feed that a user belongs to."""
    return partition_of(user_id, POSTINGS_PARTITIONS)


def _versioned(epoch: bytes | None, offset: bytes | None) -> Versioned:
    return Versioned(epoch=epoch.decode() if epoch else None, offset=int(offset or 0))
