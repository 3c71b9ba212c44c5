"""What must hold in any ledger at any position: written from the rules, with the domain's state as
its only input.

Books are judged by the open orders, balances by postings and open orders, payments by fractions;
nothing here asks the matching, the funds or the mining of the domain for its opinion.
"""

from collections import Counter

from domain.postings import EXTERNAL, ISSUANCE, SystemPosting, postings_of
from domain.state import LedgerState
from schemas import commands
from schemas.accrual import INDEX_BITS
from schemas.events import AssetBurned, LedgerEvent, MiningAllocated, OrderPlaced, TradeExecuted
from schemas.rejections import Rejection

ONE = 1 << INDEX_BITS


class LogAudit:
    """Reads a log event by event: balanced, dense, in order; keeps its own sums of postings."""

    def __init__(self) -> None:
        self.at_ns = 0
        self.order_id = 0
        self.trade_id = 0
        self.second: int | None = None
        self.burned: Counter[str] = Counter()
        self.names: set[tuple[str, str]] = set()
        self.users: Counter[tuple[str, str, str]] = Counter()
        self.system: Counter[tuple[str, str]] = Counter()

    def read(self, event: LedgerEvent) -> None:
        """Check the next event against all before it."""
        assert event.at_ns >= self.at_ns, event
        self.at_ns = event.at_ns
        self._book(event)
        match event:
            case OrderPlaced():
                assert event.order_id == self.order_id + 1, event
                self.order_id = event.order_id
                assert (event.user_id, event.client_order_id) not in self.names, event
                self.names.add((event.user_id, event.client_order_id))
            case TradeExecuted():
                assert event.trade_id == self.trade_id + 1, event
                self.trade_id = event.trade_id
            case AssetBurned():
                assert event.amount_minor > 0, event
                self.burned[event.asset_id] += event.amount_minor
                assert event.burned_total_minor == self.burned[event.asset_id], event
            case MiningAllocated():
                assert self.second is None or event.second == self.second + 1, event
                self.second = event.second
            case _:
                pass

    def _book(self, event: LedgerEvent) -> None:
        sums: Counter[str] = Counter()
        for posting in postings_of(event):
            asset_id = posting.asset_id
            if isinstance(posting, SystemPosting):
                sums[asset_id] += posting.amount_minor
                self.system[posting.account, asset_id] += posting.amount_minor
            else:
                sums[asset_id] += posting.available_minor + posting.held_minor
                self.users[posting.user_id, asset_id, "available"] += posting.available_minor
                self.users[posting.user_id, asset_id, "held"] += posting.held_minor
        assert not any(sums.values()), (event, sums)


def check_accounts(state: LedgerState, audit: LogAudit) -> None:
    """Balances are the sums of the postings, none is negative, and nothing comes from nowhere."""
    totals: Counter[str] = Counter()
    for user_id, balances in state.accounts.users.items():
        for asset_id, balance in balances.items():
            assert balance.available_minor >= 0 <= balance.held_minor, (user_id, asset_id)
            assert balance.available_minor == audit.users[user_id, asset_id, "available"]
            assert balance.held_minor == audit.users[user_id, asset_id, "held"]
            totals[asset_id] += balance.available_minor + balance.held_minor
    minted: Counter[str] = Counter()
    for (account, asset_id), amount in state.accounts.system.items():
        assert amount == audit.system[account, asset_id]
        if account in (ISSUANCE, EXTERNAL):
            minted[asset_id] -= amount
            continue
        assert amount >= 0, (account, asset_id)
        if account == "burn":
            assert amount == state.burned_minor.get(asset_id, 0)
        totals[asset_id] += amount
    assert all(minted[asset_id] == totals[asset_id] for asset_id in {*minted, *totals})


def check_orders(state: LedgerState) -> None:
    """held == what open orders hold, each exactly for what it still wants; books are complete."""
    held: Counter[tuple[str, str]] = Counter()
    for order_id, order in state.orders.items():
        assert order.order_id == order_id
        assert order.leaves_minor > 0
        assert order.price_minor is not None
        assert order.user_id not in state.frozen_accounts
        spec = state.markets[order.market_id].spec
        exact, asset_id = order.leaves_minor, spec.base_asset
        if order.side == "buy":
            unit = 10 ** state.asset_scales[spec.base_asset]
            exact, rest = divmod(order.price_minor * order.leaves_minor, unit)
            assert rest == 0
            asset_id = spec.quote_asset
        assert (order.held_asset, order.held_minor) == (asset_id, exact)
        held[order.user_id, asset_id] += exact
    booked = {
        (user_id, asset_id): balance.held_minor
        for user_id, balances in state.accounts.users.items()
        for asset_id, balance in balances.items()
    }
    assert +held == +Counter(booked)
    assert set(state.orders) <= set(state.client_orders.values())
    _check_books(state)


def _check_books(state: LedgerState) -> None:
    for market_id, market in state.markets.items():
        bid = market.book.side("buy").best_price_minor()
        ask = market.book.side("sell").best_price_minor()
        assert bid is None or ask is None or bid < ask, (market_id, bid, ask)
        by_user: Counter[tuple[str, int]] = Counter()
        for side, sign in (("buy", -1), ("sell", 1)):
            open_orders = [
                (order.price_minor, order.order_id, order.user_id)
                for order in state.orders.values()
                if (order.market_id, order.side) == (market_id, side)
            ]
            expected = sorted(open_orders, key=lambda row: (sign * (row[0] or 0), row[1]))
            queue = market.book.side("buy" if side == "buy" else "sell").queue()
            assert [(price, o.order_id, o.user_id) for price, o in queue] == expected
            by_user.update((user_id, order_id) for _, order_id, user_id in open_orders)
        named = [(user, order_id) for user, found in market.orders.items() for order_id in found]
        assert sorted(named) == sorted(by_user)


def check_mining(state: LedgerState) -> None:
    """The index pays out what was allocated to the last bit; weights are sums of grants."""
    mining = state.mining
    assert mining is not None
    assert mining.allocated_minor <= mining.pool_minor
    scaled, paid, weight_total = mining.carry, 0, 0
    for user in state.contributions.users.values():
        entitlement = user.entry_fraction + user.weight * (mining.index - user.entry_index)
        assert 0 <= user.entry_fraction < ONE
        assert user.accrued_minor(mining.index) == entitlement // ONE
        scaled += user.settled_minor * ONE + entitlement
        paid += user.settled_minor + entitlement // ONE
        weight_total += user.weight
        assert user.weight == sum(grant.weight for grant in user.grants.values())
        assert not user.ended & set(user.grants)
        for grant in user.grants.values():
            # A grant that ends at second t is gone before the allocation of t.
            assert grant.expires_second is None or grant.expires_second > mining.last_second
    assert scaled == mining.allocated_minor * ONE
    assert mining.weight_total == weight_total
    # Dust: less than one minor unit for each user, and the carry of the division.
    dust = mining.allocated_minor * ONE - mining.carry - paid * ONE
    assert 0 <= dust <= len(state.contributions.users) * (ONE - 1)


def check_shortage(state: LedgerState, command: commands.LedgerCommand, refused: Rejection) -> None:
    """Who is refused for lack of funds lacks them, whatever could be settled or is freed."""
    assert isinstance(command, commands.WithdrawFunds | commands.PlaceOrder | commands.ReplaceOrder)
    user_id, asset_id = command.user_id, str(refused.details["asset_id"])
    has = state.accounts.available_minor(user_id, asset_id)
    if isinstance(command, commands.ReplaceOrder):
        has += state.orders[command.order_id].held_minor
    user = state.contributions.users.get(user_id)
    if user is not None and state.mining is not None and asset_id == state.mining.asset_id:
        has += user.accrued_minor(state.mining.index)
    assert has < int(refused.details["needed_minor"]), (command, has)
