"""The state as canonical data and back: load(dump(state)) goes on exactly as the state would."""

from collections import deque

from domain.accounts import Accounts, Balance
from domain.book import Order
from domain.contributions import Contribution, Contributions, Grant
from domain.mining import Mining
from domain.state import ClientOrder, LedgerState, Market
from schemas import snapshots
from schemas.events import AssetSpec


def dump(state: LedgerState) -> snapshots.LedgerSnapshot:
    """The whole state, sorted so that equal states give equal snapshots."""
    return snapshots.LedgerSnapshot(
        at_ns=state.at_ns,
        mining=_mining_row(state.mining) if state.mining is not None else None,
        assets=tuple(
            AssetSpec(asset_id=asset_id, scale=scale)
            for asset_id, scale in sorted(state.asset_scales.items())
        ),
        system=tuple(
            snapshots.SystemRow(account, asset_id, amount)
            for (account, asset_id), amount in sorted(state.accounts.system.items())
        ),
        balances=_balance_rows(state.accounts),
        open_accounts=tuple(sorted(state.open_accounts)),
        frozen_accounts=tuple(sorted(state.frozen_accounts)),
        references=tuple(sorted(state.references)),
        contributions=tuple(
            _contribution_row(user_id, contribution)
            for user_id, contribution in sorted(state.contributions.users.items())
        ),
        expiries=tuple(sorted(state.contributions.expiries)),
        markets=tuple(
            snapshots.MarketRow(m.spec, m.rules, m.is_halted, m.last_price_minor)
            for _, m in sorted(state.markets.items())
        ),
        orders=tuple(_order_row(order) for _, order in sorted(state.orders.items())),
        client_orders=tuple(
            snapshots.ClientOrderRow(
                aged.second,
                aged.user_id,
                aged.client_order_id,
                state.client_orders[aged.user_id, aged.client_order_id],
            )
            for aged in state.client_order_ages
        ),
        burned=tuple(sorted(state.burned_minor.items())),
        reserve_burn_minor=state.reserve_burn_minor,
        order_id_last=state.order_id_last,
        trade_id_last=state.trade_id_last,
    )


def _mining_row(mining: Mining) -> snapshots.MiningRow:
    return snapshots.MiningRow(
        mining.asset_id,
        mining.pool_minor,
        mining.genesis_second,
        mining.last_second,
        mining.index,
        mining.carry,
        mining.weight_total,
        mining.allocated_minor,
        tuple(zip(mining.starts, mining.rewards, strict=True)),
    )


def _balance_rows(accounts: Accounts) -> tuple[snapshots.BalanceRow, ...]:
    return tuple(
        snapshots.BalanceRow(user_id, asset_id, balance.available_minor, balance.held_minor)
        for user_id, balances in sorted(accounts.users.items())
        for asset_id, balance in sorted(balances.items())
    )


def _contribution_row(user_id: str, contribution: Contribution) -> snapshots.ContributionRow:
    return snapshots.ContributionRow(
        user_id,
        contribution.weight,
        contribution.entry_index,
        contribution.entry_fraction,
        contribution.settled_minor,
        tuple(
            snapshots.GrantRow(grant_id, grant.source, grant.weight, grant.expires_second)
            for grant_id, grant in sorted(contribution.grants.items())
        ),
        tuple(sorted(contribution.ended)),
    )


def _order_row(order: Order) -> snapshots.OrderRow:
    return snapshots.OrderRow(
        order.order_id,
        order.user_id,
        order.market_id,
        order.side,
        order.price_minor,
        order.leaves_minor,
        order.held_asset,
        order.held_minor,
        order.post_only,
        order.self_trade_prevention,
    )


def load(snapshot: snapshots.LedgerSnapshot) -> LedgerState:
    """The state that a snapshot was dumped from."""
    state = LedgerState()
    state.at_ns = snapshot.at_ns
    state.mining = _mining(snapshot.mining) if snapshot.mining is not None else None
    state.asset_scales = {asset.asset_id: asset.scale for asset in snapshot.assets}
    state.accounts.system = {
        (row.account, row.asset_id): row.amount_minor for row in snapshot.system
    }
    for row in snapshot.balances:
        balances = state.accounts.users.setdefault(row.user_id, {})
        balances[row.asset_id] = Balance(row.available_minor, row.held_minor)
    state.open_accounts = set(snapshot.open_accounts)
    state.frozen_accounts = set(snapshot.frozen_accounts)
    state.references = set(snapshot.references)
    state.contributions = _contributions(snapshot)
    for market_row in snapshot.markets:
        market = Market(market_row.spec, state.asset_scales[market_row.spec.base_asset])
        market.rules = market_row.rules
        market.is_halted = market_row.is_halted
        market.last_price_minor = market_row.last_price_minor
        state.markets[market_row.spec.market_id] = market
    for order_row in snapshot.orders:
        _open(state, order_row)
    state.client_orders = {
        (row.user_id, row.client_order_id): row.order_id for row in snapshot.client_orders
    }
    state.client_order_ages = deque(
        ClientOrder(row.second, row.user_id, row.client_order_id) for row in snapshot.client_orders
    )
    state.burned_minor = dict(snapshot.burned)
    state.reserve_burn_minor = snapshot.reserve_burn_minor
    state.order_id_last = snapshot.order_id_last
    state.trade_id_last = snapshot.trade_id_last
    return state


def _mining(row: snapshots.MiningRow) -> Mining:
    mining = Mining(row.asset_id, row.pool_minor, row.genesis_second)
    mining.last_second = row.last_second
    mining.index = row.index
    mining.carry = row.carry
    mining.weight_total = row.weight_total
    mining.allocated_minor = row.allocated_minor
    mining.starts = [start for start, _ in row.schedule]
    mining.rewards = [reward for _, reward in row.schedule]
    return mining


def _contributions(snapshot: snapshots.LedgerSnapshot) -> Contributions:
    loaded = Contributions()
    for row in snapshot.contributions:
        contribution = loaded.users[row.user_id] = Contribution()
        contribution.weight = row.weight
        contribution.entry_index = row.entry_index
        contribution.entry_fraction = row.entry_fraction
        contribution.settled_minor = row.settled_minor
        contribution.grants = {
            grant.grant_id: Grant(grant.source, grant.weight, grant.expires_second)
            for grant in row.grants
        }
        contribution.ended = set(row.ended)
    # A sorted list is a heap.
    loaded.expiries = list(snapshot.expiries)
    return loaded


def _open(state: LedgerState, row: snapshots.OrderRow) -> None:
    order = Order(
        row.order_id,
        row.user_id,
        row.market_id,
        row.side,
        row.price_minor,
        row.leaves_minor,
        row.held_asset,
        row.held_minor,
        row.post_only,
        row.self_trade_prevention,
    )
    state.orders[row.order_id] = order
    market = state.markets[row.market_id]
    market.orders.setdefault(row.user_id, {})[row.order_id] = order
    if row.price_minor is not None:
        market.book.side(row.side).add(order, row.price_minor)
