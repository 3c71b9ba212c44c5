"""Reads of the views in Redis; each method is one atomic step of one generation. Never writes.

Each transaction also reads which generation is live. Its keys are those of the generation that was
live last time; if another one is now, what was read is dropped and read again (docs/adr/0012).
Everything above this file sees structs of schemas.views and, if Redis fails, ViewsUnavailable.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from gateway.errors import ViewsUnavailable
from gateway.view_reads import SharedReads
from schemas import views
from schemas.effects import partition_of
from schemas.records import POSTINGS_PARTITIONS
from schemas.views import (
    AccountView,
    AssetView,
    BurnedView,
    BurnMinute,
    Candle,
    ContributionView,
    DepthView,
    FillView,
    MarketView,
    OrderView,
    PoolView,
    TickerView,
    TradeView,
)

CONNECTIONS_MAX = 32
CONNECT_SECONDS_MAX = 2.0
ANSWER_SECONDS_MAX = 5.0
# A rebuild switches once; a read that meets more switches than this is looking at something broken.
MOVES_MAX = 5


class _Beat(msgspec.Struct):
    # A pulse's offset is its second.
    second: int


_account = msgspec.json.Decoder(AccountView).decode
_asset = msgspec.json.Decoder(AssetView).decode
_beat = msgspec.json.Decoder(_Beat).decode
_burn_minute = msgspec.json.Decoder(BurnMinute).decode
_burned = msgspec.json.Decoder(BurnedView).decode
_candle = msgspec.json.Decoder(Candle).decode
_contribution = msgspec.json.Decoder(ContributionView).decode
_depth = msgspec.json.Decoder(DepthView).decode
_fill = msgspec.json.Decoder(FillView).decode
_market = msgspec.json.Decoder(MarketView).decode
_order = msgspec.json.Decoder(OrderView).decode
_pool = msgspec.json.Decoder(PoolView).decode
_ticker = msgspec.json.Decoder(TickerView).decode
_trade = msgspec.json.Decoder(TradeView).decode


# A view's name in schemas.views -> the key that it has in the generation being read.
StoredKey = Callable[[str], str]


class Versioned(msgspec.Struct, frozen=True, kw_only=True):
    """Where a read stood. epoch: None while no projection has written. offset: of one channel."""

    epoch: str | None
    offset: int


class KnownSpan(NamedTuple):
    """Open seconds of the first and the newest candle that were found at an epoch."""

    epoch: str | None
    first: int
    newest: int


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
    """One pool of connections per database. Close with close().

    known_spans: by market and interval, what gateway.candles found last.
    """

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
        self._reads = {
            projection: SharedReads(
                self.home(projection),
                views.generation_key(projection),
                turn_seconds_max=ANSWER_SECONDS_MAX,
            )
            for projection in views.HOME_DB
        }
        self._live: dict[str, str] = {}
        self.known_spans: dict[tuple[str, str], KnownSpan] = {}

    async def close(self) -> None:
        for reads in self._reads.values():
            await reads.close()
        for database in self._databases.values():
            await database.aclose()
            await database.connection_pool.disconnect()

    def home(self, projection: str) -> Redis:
        """The client of the database in which a projection keeps its checkpoint and feed."""
        return self._databases[views.HOME_DB[projection]]

    def live(self, projection: str) -> str:
        """The generation that was live when last looked at."""
        return self._live.get(projection, views.FIRST_GENERATION)

    def is_live(self, projection: str, generation: str, pointer: bytes | None) -> bool:
        """Whether the generation that keys were made for is the one that `pointer` names.

        If it is not, the one named is what live() says from now on.
        """
        found = pointer.decode() if pointer else views.FIRST_GENERATION
        if found != generation:
            self._live[projection] = found
        return found == generation

    async def ping(self) -> None:
        with translated():
            async with self._databases[views.TRADING_DB].pipeline(transaction=False) as pipe:
                pipe.ping()
                await pipe.execute()

    async def position(self, projection: str, partition: int) -> int:
        """Of the last event in the views, 0 before the first."""

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.hget(key(views.checkpoint_key(projection, partition)), "position")

        (position,) = await self._read(projection, fill)
        return int(position or 0)

    async def assets_and_markets(self) -> tuple[dict[str, AssetView], dict[str, MarketView]]:
        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.hgetall(key(views.ASSETS_KEY))
            pipe.hgetall(key(views.MARKETS_KEY))

        assets, markets = await self._read(views.MARKET, fill)
        return (
            {name.decode(): _asset(text) for name, text in assets.items()},
            {name.decode(): _market(text) for name, text in markets.items()},
        )

    async def account(self, user_id: str) -> AccountState:
        (state,) = await self.accounts([user_id])
        return state

    async def accounts(self, user_ids: Sequence[str]) -> list[AccountState]:
        """Several users as of the same moment, in the order asked for; one at least."""
        partitions = [partition_of_accounts(user_id) for user_id in user_ids]
        asked = sorted(set(partitions))

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            for partition in asked:
                pipe.hget(key(views.checkpoint_key(views.ACCOUNTS, partition)), "epoch")
            pipe.mget([key(views.account_key(user_id)) for user_id in user_ids])
            # One step over two databases; the last SELECT leaves the connection as it was.
            pipe.execute_command("SELECT", views.CONTRIBUTION_DB)
            pipe.mget([key(views.contribution_key(user_id)) for user_id in user_ids])
            pipe.execute_command("SELECT", views.TRADING_DB)

        *epochs, accounts, _, contributions, _ = await self._read(views.ACCOUNTS, fill)
        found = dict(zip(asked, epochs, strict=True))
        return [
            _account_state(user_id, epoch=found[partition], texts=texts)
            for user_id, partition, *texts in zip(
                user_ids, partitions, accounts, contributions, strict=True
            )
        ]

    async def pool(self) -> tuple[PoolView | None, Versioned]:
        """The mining pool; the offset is that of channel mining."""

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.hget(key(views.checkpoint_key(views.MINING, 0)), "epoch")
            pipe.hget(key(views.offsets_key(views.MINING)), "mining")
            pipe.get(key(views.POOL_KEY))

        epoch, offset, pool = await self._read(views.MINING, fill)
        return (_pool(pool) if pool else None), _versioned(epoch, offset)

    async def newest_pulse(self) -> tuple[str | None, tuple[int, bytes] | None]:
        """The epoch, and offset and wire JSON of the last pulse."""

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.hget(key(views.checkpoint_key(views.MINING, 0)), "epoch")
            pipe.get(key(views.PULSE_KEY))

        epoch, pulse = await self._read(views.MINING, fill)
        found = (_beat(pulse).second, pulse) if pulse else None
        return (epoch.decode() if epoch else None), found

    async def ticker(self, market_id: str) -> tuple[TickerView | None, Versioned]:
        def fill(pipe: Pipeline, key: StoredKey) -> None:
            _version(pipe, key, f"ticker.{market_id}")
            pipe.get(key(views.ticker_key(market_id)))

        epoch, offset, ticker = await self._read(views.MARKET, fill)
        return (_ticker(ticker) if ticker else None), _versioned(epoch, offset)

    async def tickers(self, market_ids: Sequence[str]) -> list[TickerView]:
        """Those that have one, of several markets as of the same moment; one at least."""

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.mget([key(views.ticker_key(market_id)) for market_id in market_ids])

        (found,) = await self._read(views.MARKET, fill)
        return [_ticker(text) for text in found if text]

    async def trades(self, market_id: str, count: int) -> tuple[list[TradeView], Versioned]:
        """The newest `count`, oldest of them first."""

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            _version(pipe, key, f"trades.{market_id}")
            pipe.lrange(key(views.trades_key(market_id)), 0, count - 1)

        epoch, offset, newest_first = await self._read(views.MARKET, fill)
        return [_trade(text) for text in reversed(newest_first)], _versioned(epoch, offset)

    async def depth(self, market_id: str) -> tuple[DepthView | None, Versioned]:
        """None before the market's first resting order. Its offset is its own position."""

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.hget(key(views.checkpoint_key(views.MARKET, 0)), "epoch")
            pipe.get(key(views.depth_key(market_id)))

        epoch, text = await self._read(views.MARKET, fill)
        depth = _depth(text) if text else None
        return depth, Versioned(
            epoch=epoch.decode() if epoch else None, offset=depth.position if depth else 0
        )

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

    async def burned(self, asset_id: str) -> BurnedView:
        """What was ever burned of an asset."""

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.get(key(views.burned_key(asset_id)))

        (text,) = await self._read(views.MARKET, fill)
        return _burned(text) if text else BurnedView(asset_id=asset_id)

    async def open_orders(self, user_id: str) -> list[OrderView]:
        """In no order."""

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.hvals(key(views.orders_key(user_id)))

        (found,) = await self._read(views.ACCOUNTS, fill)
        return [_order(text) for text in found]

    async def open_order(self, user_id: str, order_id: int) -> OrderView | None:
        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.hget(key(views.orders_key(user_id)), str(order_id))

        (text,) = await self._read(views.ACCOUNTS, fill)
        return _order(text) if text else None

    async def fills(self, user_id: str) -> list[FillView]:
        """The newest FILLS_KEPT, newest first; all there are if they are fewer."""

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.lrange(key(views.fills_key(user_id)), 0, views.FILLS_KEPT - 1)

        (found,) = await self._read(views.ACCOUNTS, fill)
        return [_fill(text) for text in found]

    async def weeks(self, market_id: str) -> list[int]:
        """Open seconds of the market's weekly candles, oldest first; one for each week it lived."""

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.hkeys(key(views.kline_key(market_id, "1w")))

        (fields,) = await self._read(views.MARKET, fill)
        return sorted(int(field) for field in fields)

    async def emission(self) -> tuple[PoolView | None, dict[int, int]]:
        """The mining pool, and the schedule: reward in minor units by first second, in order."""

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.get(key(views.POOL_KEY))
            pipe.hgetall(key(views.EMISSION_KEY))

        pool, rewards = await self._read(views.MINING, fill)
        schedule = sorted((int(second), int(reward)) for second, reward in rewards.items())
        return (_pool(pool) if pool else None), dict(schedule)

    async def leaders(
        self, database: int, board: str, *, start: int, count: int, user_id: str
    ) -> tuple[int, list[str], int | None]:
        """How many a leaderboard ranks, `count` of them after the first `start`, largest first, and
        how many are before one user, None if the user was never on it.
        """

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.execute_command("SELECT", database)
            pipe.zcount(key(board), "(0", "+inf")
            pipe.zrevrange(key(board), start, start + count - 1)
            pipe.zrevrank(key(board), user_id)
            pipe.execute_command("SELECT", views.TRADING_DB)

        _, ranked, user_ids, before, _ = await self._read(views.ACCOUNTS, fill)
        return ranked, [found.decode() for found in user_ids], before

    async def top_weights(
        self, count: int, *, start: int = 0
    ) -> tuple[int, list[ContributionView]]:
        """How many users are ranked, and the heaviest after the first `start`, exact weights,
        heaviest first.
        """

        def rank(pipe: Pipeline, key: StoredKey) -> None:
            pipe.execute_command("SELECT", views.CONTRIBUTION_DB)
            pipe.zcount(key(views.WEIGHTS_KEY), "(0", "+inf")
            pipe.zrevrange(key(views.WEIGHTS_KEY), start, start + count - 1)
            pipe.execute_command("SELECT", views.TRADING_DB)

        for _ in range(MOVES_MAX):
            generation = self.live(views.ACCOUNTS)
            _, ranked, user_ids, _ = await self._read(views.ACCOUNTS, rank)
            texts = await self._contributions([user_id.decode() for user_id in user_ids])
            if self.live(views.ACCOUNTS) == generation:
                break
        found = [_contribution(text) for text in texts if text]
        found.sort(key=lambda view: (-view.weight, view.user_id))
        return ranked, [view for view in found if view.weight > 0]

    async def _contributions(self, user_ids: Sequence[str]) -> list[bytes | None]:
        def fill(pipe: Pipeline, key: StoredKey) -> None:
            pipe.execute_command("SELECT", views.CONTRIBUTION_DB)
            pipe.mget([key(views.contribution_key(user_id)) for user_id in user_ids])
            pipe.execute_command("SELECT", views.TRADING_DB)

        if not user_ids:
            return []
        _, texts, _ = await self._read(views.ACCOUNTS, fill)
        return list(texts)

    async def _fields(
        self, channel: str, name: str, open_seconds: Sequence[int]
    ) -> tuple[list[bytes], Versioned]:
        if not open_seconds:
            return [], Versioned(epoch=None, offset=0)

        def fill(pipe: Pipeline, key: StoredKey) -> None:
            _version(pipe, key, channel)
            pipe.hmget(key(name), [str(second) for second in open_seconds])

        epoch, offset, texts = await self._read(views.MARKET, fill)
        return [text for text in texts if text is not None], _versioned(epoch, offset)

    async def _read(
        self, projection: str, fill: Callable[[Pipeline, StoredKey], None]
    ) -> list[Any]:
        """The answers to what `fill` asks, all from the live generation.

        fill: called again if the generation changed. Raises ViewsUnavailable.
        """
        for _ in range(MOVES_MAX):
            generation = self.live(projection)
            key = partial(views.stored_key, projection, generation)
            with translated():
                pointer, answers = await self._reads[projection].read(fill, key)
            if self.is_live(projection, generation, pointer):
                return answers
        raise ViewsUnavailable(f"the generation of {projection} changed {MOVES_MAX} times")


def partition_of_accounts(user_id: str) -> int:
    """The accounts checkpoint and feed that a user belongs to."""
    return partition_of(user_id, POSTINGS_PARTITIONS)


def _account_state(
    user_id: str, *, epoch: bytes | None, texts: Sequence[bytes | None]
) -> AccountState:
    account, contribution = texts
    return AccountState(
        account=_account(account) if account else AccountView(user_id=user_id, balances={}),
        contribution=(
            _contribution(contribution) if contribution else ContributionView(user_id=user_id)
        ),
        epoch=epoch.decode() if epoch else None,
    )


def _version(pipe: Pipeline, key: StoredKey, channel: str) -> None:
    pipe.hget(key(views.checkpoint_key(views.MARKET, 0)), "epoch")
    pipe.hget(key(views.offsets_key(views.MARKET)), channel)


def _versioned(epoch: bytes | None, offset: bytes | None) -> Versioned:
    return Versioned(epoch=epoch.decode() if epoch else None, offset=int(offset or 0))
