"""Strategies for every command of a small ledger: few users, few prices, three markets.

A drawn command has NAME where it needs an id that nobody used yet, and counts its seconds from the
present; `named` fills both in. Mistakes are drawn too, but rarely.
"""

from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from schemas import commands
from schemas.events import AssetSpec, MarketRules
from tests.unit.domain.scenario import GENESIS_SECOND

USERS = ("alice", "bob", "carol")
ASSETS = (
    AssetSpec(asset_id="DUR", scale=2),
    AssetSpec(asset_id="CNY", scale=2),
    AssetSpec(asset_id="TOK", scale=0),
)
# One market pays in what is mined; one has a base asset without decimals.
MARKETS = {"DUR-CNY": ("DUR", "CNY"), "TOK-CNY": ("TOK", "CNY"), "TOK-DUR": ("TOK", "DUR")}
STEP = 10
NAME = "-"
NAMED_FIELDS = ("client_order_id", "new_client_order_id", "reference", "grant_id")
SECOND_FIELDS = ("expires_second", "from_second")
BAD_NUMBERS = (-1, 0, 7, 10**36 + 1, (1 << 63) + 1)
BAD_TEXTS = ("nobody", "bob", "", "é", "x" * 65)
CHOICES = {"side", "order_type", "time_in_force", "self_trade_prevention", *SECOND_FIELDS}

users = st.sampled_from((*USERS * 10, "dave"))
markets = st.sampled_from((*[*MARKETS] * 10, "nowhere"))
assets = st.sampled_from((*[asset.asset_id for asset in ASSETS] * 10, "nothing"))
sides = st.sampled_from(("buy", "sell"))
preventions = st.sampled_from(("cancel_newest", "cancel_oldest", "cancel_both"))
prices = st.sampled_from((*range(8 * STEP, 13 * STEP, STEP), *range(70, 140, STEP), 85))
quantities = st.sampled_from((10, 20, 30, 50, 70, 100, 100, 150, 200, 300, 400, 600, 15))
amounts = st.integers(1, 900)
weights = st.one_of(st.integers(0, 9), st.just(1 << 63))
lasting = st.one_of(st.none(), st.integers(0, 20))
picks = st.integers(0, 30)
rules_of_markets = st.builds(
    MarketRules,
    burn_bps=st.sampled_from((0, 1, 333, 9_999)),
    maker_fee_bps=st.sampled_from((0, 10, 9_999)),
    taker_fee_bps=st.sampled_from((0, 0, 25)),
    band_bps=st.sampled_from((None, None, 1_000, 2_000, 100_000)),
    min_notional_minor=st.sampled_from((0, 0, 60)),
    open_orders_max=st.sampled_from((200, 200, 200, 3, 1)),
)
bad_rules = st.sampled_from(
    (MarketRules(burn_bps=10_000), MarketRules(band_bps=0), MarketRules(open_orders_max=0))
)
openings = st.builds(
    commands.OpenLedger,
    genesis_second=st.just(GENESIS_SECOND),
    mined_asset=st.just("DUR"),
    pool_minor=st.sampled_from((1_000, 10**12)),
    treasury_minor=st.sampled_from((0, 25, 10**6)),
    assets=st.just(ASSETS),
    emission=st.lists(st.integers(0, 1_000), min_size=1, max_size=3).map(
        lambda rewards: tuple(
            commands.EmissionEntry(after_seconds=number * 7, reward_minor=reward)
            for number, reward in enumerate(rewards)
        )
    ),
)


def market_of(market_id: str, rules: MarketRules) -> commands.OpenMarket:
    base_asset, quote_asset = MARKETS.get(market_id, ("TOK", "CNY"))
    return commands.OpenMarket(
        market_id=market_id,
        base_asset=base_asset,
        quote_asset=quote_asset,
        tick_minor=STEP,
        lot_minor=STEP,
        rules=rules,
    )


halts = st.builds(commands.HaltMarket, market_id=markets, reason=st.just("test"))
resumptions = st.builds(commands.ResumeMarket, market_id=markets)
policies: SearchStrategy[commands.LedgerCommand] = st.one_of(
    st.builds(market_of, markets, rules_of_markets),
    st.builds(
        commands.ConfigureMarket,
        market_id=markets,
        rules=st.one_of(rules_of_markets, rules_of_markets, bad_rules),
    ),
    halts,
    resumptions,
    resumptions,
    resumptions,
    st.builds(
        commands.ScheduleEmission, from_second=st.integers(0, 12), reward_minor=st.integers(0, 500)
    ),
    st.builds(commands.ConfigureReserveBurn, amount_minor=st.sampled_from((0, 10, 10**5))),
)
thaws = st.builds(commands.UnfreezeAccount, user_id=users)
of_accounts: SearchStrategy[commands.LedgerCommand] = st.one_of(
    st.builds(
        commands.DepositFunds,
        user_id=users,
        asset_id=assets,
        amount_minor=amounts,
        reference=st.just(NAME),
    ),
    st.builds(
        commands.WithdrawFunds,
        user_id=users,
        asset_id=assets,
        amount_minor=amounts,
        reference=st.just(NAME),
    ),
    st.builds(commands.SettleAccrual, user_id=users),
    thaws,
    thaws,
    st.builds(commands.FreezeAccount, user_id=users, reason=st.just("test")),
    st.builds(commands.OpenAccount, user_id=users),
    st.builds(commands.CancelAllOrders, user_id=users, market_id=st.one_of(st.none(), markets)),
)
grants = st.builds(
    commands.GrantContribution,
    user_id=users,
    grant_id=st.just(NAME),
    source=st.just("test"),
    weight=weights,
    expires_second=lasting,
)
adjustments = st.builds(
    commands.AdjustContribution,
    user_id=users,
    grant_id=st.just("none"),
    weight=weights,
    expires_second=lasting,
)
limit_orders = st.builds(
    commands.PlaceOrder,
    user_id=users,
    client_order_id=st.just(NAME),
    market_id=markets,
    side=sides,
    order_type=st.just("limit"),
    time_in_force=st.sampled_from(("gtc", "gtc", "gtc", "gtc", "ioc", "fok")),
    post_only=st.sampled_from((False, False, False, False, False, True)),
    self_trade_prevention=preventions,
    price_minor=prices,
    quantity_minor=quantities,
)


def _by_budget(order: commands.PlaceOrder, amount: int) -> commands.PlaceOrder:
    return msgspec.structs.replace(order, quantity_minor=None, quote_budget_minor=amount)


by_quantity = st.builds(
    commands.PlaceOrder,
    user_id=users,
    client_order_id=st.just(NAME),
    market_id=markets,
    side=sides,
    order_type=st.just("market"),
    time_in_force=st.sampled_from(("gtc", "ioc", "ioc", "fok")),
    self_trade_prevention=preventions,
    quantity_minor=quantities,
)
market_orders = st.one_of(by_quantity, st.builds(_by_budget, by_quantity, st.integers(1, 4_000)))
replacements = st.builds(
    commands.ReplaceOrder,
    user_id=users,
    order_id=picks,
    new_client_order_id=st.just(NAME),
    price_minor=prices,
    quantity_minor=quantities,
)


def named(command: commands.LedgerCommand, name: str, second: int) -> commands.LedgerCommand:
    """The command with its own name instead of NAME, and its seconds counted from `second`."""
    changes: dict[str, Any] = {}
    for field in command.__struct_fields__:
        value = getattr(command, field)
        if field in NAMED_FIELDS and value == NAME:
            changes[field] = name
        elif field in SECOND_FIELDS and value is not None:
            changes[field] = second + value
    return msgspec.structs.replace(command, **changes)


def unnamed(command: commands.LedgerCommand) -> commands.LedgerCommand:
    """The command as it could have been drawn: without a name, and with seconds close by."""
    changes: dict[str, Any] = {
        field: NAME if field in NAMED_FIELDS else 3
        for field in command.__struct_fields__
        if field in NAMED_FIELDS or field in SECOND_FIELDS
    }
    return msgspec.structs.replace(command, **changes)


def spoiled(command: commands.LedgerCommand, field: int, bad: int) -> commands.LedgerCommand:
    """The command with one number or text replaced; some of these are still accepted."""
    fields = [name for name in command.__struct_fields__ if name not in CHOICES]
    name = fields[field % len(fields)]
    value = getattr(command, name)
    if type(value) is int:
        return msgspec.structs.replace(command, **{name: BAD_NUMBERS[bad]})
    if type(value) is str:
        return msgspec.structs.replace(command, **{name: BAD_TEXTS[bad]})
    return command
