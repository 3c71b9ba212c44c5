"""The projection `accounts` of one partition: cache, idempotence per view, what it writes."""

import msgspec

from domain.effects import effects_of
from projections.fresh import FreshFold
from projections.users import StoredUser, UsersFold
from schemas import views
from schemas.effects import BalanceChange, UserEffect
from schemas.views import AccountPublication, AccountView, ContributionView
from tests.fixtures.ledger_logs import LOT, LogBuilder, positioned, random_log


def _deposit(position: int, user_id: str) -> UserEffect:
    change = BalanceChange("DUR", 5, 0)
    return UserEffect(
        position=position, at_ns=0, user_id=user_id, event_type="t", balances=(change,)
    )


def test_views_equal_the_ledgers_own_state() -> None:
    log = random_log(3, seconds=600, trades=40)
    stored = FreshFold(views.ACCOUNTS).fold_all(positioned(log)).views
    effects = [e for position, event in positioned(log) for e in effects_of(position, event)]
    for user_id in {effect.user_id for effect in effects}:
        mine = [effect for effect in effects if effect.user_id == user_id]
        content = stored[views.TRADING_DB, views.account_key(user_id)]
        account = msgspec.json.decode(content, type=AccountView)  # type: ignore[arg-type]
        assert (account.offset, account.position) == (len(mine), mine[-1].position)
        available = sum(
            change.available_minor
            for effect in mine
            for change in effect.balances
            if change.asset_id == "DUR"
        )
        assert account.balances["DUR"].available == available


def test_weights_rank_users_and_forget_those_without() -> None:
    log = random_log(4, seconds=900, trades=0)
    stored = FreshFold(views.ACCOUNTS).fold_all(positioned(log)).views
    weights = {}
    for (database, key), content in stored.items():
        if database == views.CONTRIBUTION_DB and key.startswith("contribution:"):
            view = msgspec.json.decode(content, type=ContributionView)  # type: ignore[arg-type]
            weights[view.user_id] = float(view.weight)
    assert stored[views.CONTRIBUTION_DB, views.WEIGHTS_KEY] == {
        user_id: weight for user_id, weight in weights.items() if weight
    }


def test_one_publication_per_touched_user_with_the_newest_state() -> None:
    fold = UsersFold()
    for user_id in fold.unknown(["a", "b", "a"]):
        fold.adopt(user_id)
    for position, user_id in enumerate("aba", 1):
        fold.fold(_deposit(position, user_id))
    entries = fold.drain().publications
    assert [(entry.user, entry.offset) for entry in entries] == [("a", 2), ("b", 1)]
    shown = msgspec.json.decode(entries[0].data, type=AccountPublication)
    assert shown.account.balances["DUR"].available == 10


def test_publication_tells_the_orders_and_fills_of_its_batch() -> None:
    builder = LogBuilder()
    builder.pass_seconds(1)
    builder.open_users("maker", "taker")
    builder.order("maker", "sell", 10_000, 50)
    builder.order("taker", "buy", 10_000, 20)
    stored = FreshFold(views.ACCOUNTS).fold_all(positioned(builder.log))
    told = {
        entry.user: msgspec.json.decode(entry.data, type=AccountPublication)
        for feed in stored.feeds.values()
        for entry in feed
    }
    (taken,), (made,) = told["taker"].orders, told["maker"].orders
    assert (taken.closed, taken.filled, made.closed) == ("filled", 20 * LOT, None)
    assert (made.leaves, made.filled) == (30 * LOT, 20 * LOT)
    assert [fill.role for user in ("taker", "maker") for fill in told[user].fills] == [
        "taker",
        "maker",
    ]
    orders = stored.views[views.TRADING_DB, views.orders_key("maker")]
    assert isinstance(orders, dict)
    assert list(orders) == [str(made.order_id)]
    assert (views.TRADING_DB, views.orders_key("taker")) not in stored.views


def test_quiet_fold_publishes_nothing() -> None:
    fold = UsersFold(quiet=True)
    fold.adopt("a")
    fold.fold(_deposit(1, "a"))
    batch = fold.drain()
    assert batch.publications == []
    assert (views.TRADING_DB, views.account_key("a")) in batch.strings


def test_users_not_needed_lately_are_forgotten_after_the_batch() -> None:
    fold = UsersFold(cached_max=2)
    for user_id in fold.unknown("abc"):
        fold.adopt(user_id)
    for position, user_id in enumerate("abc", 1):
        fold.fold(_deposit(position, user_id))
    fold.drain()
    assert fold.unknown("abc") == ["a"]


def test_view_that_already_holds_an_effect_stays_as_it_is() -> None:
    fold = UsersFold()
    account = AccountView(user_id="a", balances={}, offset=3, position=9)
    fold.adopt("a", StoredUser(account=account))
    fold.fold(_deposit(9, "a"))
    assert fold.drain().publications == []
