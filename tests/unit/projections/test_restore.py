"""Folds read back from stored views: nothing stored, something that is not a view."""

import asyncio

import pytest

from projections.batch import Batch
from projections.errors import ViewBroken
from projections.markets import STATE_PLACE
from projections.memory import MemoryViews
from projections.restore import adopt_users, read_stored, restore_markets, restore_pool
from projections.users import UsersFold
from schemas import views
from schemas.views import AccountView


def test_without_stored_views_a_fold_begins_empty() -> None:
    stored = MemoryViews()
    market = asyncio.run(restore_markets(stored)).drain()
    pool = asyncio.run(restore_pool(stored, quiet=True)).drain()
    for batch in (market, pool):
        assert (batch.strings, batch.fields, batch.publications) == ({}, {}, [])


def test_what_is_not_a_view_is_told() -> None:
    stored, batch = MemoryViews(), Batch()
    batch.put(STATE_PLACE, b'{"markets": 1}')
    stored.apply(0, batch)
    with pytest.raises(ViewBroken, match="MarketsState"):
        asyncio.run(restore_markets(stored))
    with pytest.raises(ViewBroken, match="AccountView"):
        read_stored(b"[]", AccountView)


def test_only_unknown_users_are_read_back() -> None:
    stored, batch, fold = MemoryViews(), Batch(), UsersFold()
    batch.put((views.TRADING_DB, views.account_key("ann")), b'{"user_id":"ann","balances":{}}')
    stored.apply(0, batch)
    asyncio.run(adopt_users(fold, ["ann", "bob", "ann"], stored))
    assert fold.unknown(["ann", "bob"]) == []
    batch.put((views.TRADING_DB, views.account_key("ann")), b"broken")
    stored.apply(0, batch)
    asyncio.run(adopt_users(fold, ["ann"], stored))
