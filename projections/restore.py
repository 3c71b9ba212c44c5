"""Folds as their last commit left them: built again from the stored views."""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from projections import klines, markets, pool
from projections.errors import ViewBroken
from projections.market import MarketState
from projections.markets import StoredMarket
from projections.ports import ViewReader
from projections.users import StoredUser, UsersFold
from schemas import views
from schemas.views import AccountView, BookOrder, Candle, ContributionView, OrderView

Shape = TypeVar("Shape")


async def restore_markets(reader: ViewReader, *, quiet: bool = False) -> markets.MarketsFold:
    """The fold of projection market, as its last commit left it."""
    (stored,) = await reader.strings(markets.STATE_PLACE[0], [markets.STATE_PLACE[1]])
    if stored is None:
        return markets.MarketsFold(quiet=quiet)
    state = read_stored(stored, markets.MarketsState)
    offsets = await reader.all_fields(markets.OFFSETS_PLACE)
    found = {
        market_id: await _restore_market(reader, market_id, market)
        for market_id, market in state.markets.items()
    }
    return markets.MarketsFold(state, offsets=offsets, stored=found, quiet=quiet)


async def restore_pool(reader: ViewReader, *, quiet: bool = False) -> pool.PoolFold:
    """The fold of projection mining, as its last commit left it."""
    (stored,) = await reader.strings(pool.STATE_PLACE[0], [pool.STATE_PLACE[1]])
    offsets = await reader.all_fields(pool.OFFSETS_PLACE)
    state = read_stored(stored, pool.PoolState) if stored else None
    return pool.PoolFold(state, offsets=offsets, quiet=quiet)


async def adopt_users(fold: UsersFold, user_ids: Sequence[str], reader: ViewReader) -> None:
    """Give a fold the stored views of those users that it does not know."""
    unknown = fold.unknown(user_ids)
    if not unknown:
        return
    accounts, contributions, orders = await asyncio.gather(
        reader.strings(views.TRADING_DB, [views.account_key(one) for one in unknown]),
        reader.strings(views.CONTRIBUTION_DB, [views.contribution_key(one) for one in unknown]),
        reader.hashes(views.TRADING_DB, [views.orders_key(one) for one in unknown]),
    )
    rows = zip(unknown, accounts, contributions, orders, strict=True)
    for user_id, account, contribution, opened in rows:
        stored = StoredUser(
            account=read_stored(account, AccountView) if account else None,
            contribution=read_stored(contribution, ContributionView) if contribution else None,
            orders=[read_stored(order, OrderView) for order in opened.values()],
        )
        fold.adopt(user_id, stored)


async def _restore_market(reader: ViewReader, market_id: str, state: MarketState) -> StoredMarket:
    key = views.kline_key(market_id, klines.MINUTE)
    minutes = await reader.fields((views.TRADING_DB, key), markets.window_fields(state))
    orders = await reader.all_fields((views.TRADING_DB, views.book_key(market_id)))
    return StoredMarket(
        minutes=[read_stored(candle, Candle) for candle in minutes if candle is not None],
        orders=[(int(one), read_stored(order, BookOrder)) for one, order in orders.items()],
    )


def read_stored(stored: bytes, kind: type[Shape]) -> Shape:
    """A stored view's struct. Raises ViewBroken."""
    try:
        return msgspec.json.decode(stored, type=kind)
    except msgspec.DecodeError as exc:
        raise ViewBroken(f"a stored {kind.__name__} cannot be read: {exc}") from exc
