"""For each command: one that is accepted, and everything that can be wrong with it.

A Fault makes the command wrong in one way, by its fields or by what happened before it. Two faults
that touch different fields can be combined; the rejection's precedence is tested with that.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from schemas import commands
from schemas.events import AssetSpec, MarketRules
from schemas.rejections import RejectionCode
from tests.unit.domain.scenario import GENESIS_SECOND, MARKET, Scenario, genesis, market

Code = RejectionCode
Before = Callable[[Scenario], object]
TOO_MUCH = 10**36 + 10
BAD_IDS = ("", " ", "a b", "é", "a" * 65, "a\n")
NOW = GENESIS_SECOND + 1
ALICE_CNY = 10_000


def _nothing(given: Scenario) -> None:
    """The fault is in the command's fields alone."""


class Fault(NamedTuple):
    """before: what makes the command wrong, asked of the scenario first."""

    code: RejectionCode
    change: dict[str, Any] = {}
    before: Before = _nothing


def given_ledger() -> Scenario:
    """alice has CNY and DUR, has accrued, and offers 30 DUR at 300 (order 4); bob offers 100 at 200
    and bought 10 at 150 from carol, so there is a last price.
    """
    given = Scenario(burn_bps=0)
    for user_id in ("bob", "carol"):
        given.deposit(user_id, "DUR", 1_000)
        given.deposit(user_id, "CNY", 1_000)
    given.accept(
        commands.DepositFunds(
            user_id="alice", asset_id="CNY", amount_minor=ALICE_CNY, reference="booked"
        )
    )
    given.deposit("alice", "DUR", 100)
    given.grant("alice", 3, grant_id="given")
    given.grant("carol", 3, grant_id="ended")
    given.tick()
    given.accept(commands.AdjustContribution(user_id="carol", grant_id="ended", weight=0))
    given.place("carol", "sell", 10, 150)
    given.place("bob", "buy", 10, 150)
    given.rest("bob", "sell", 100, 200)
    given.rest("alice", "sell", 30, 300, client_order_id="resting")
    cancelled = given.rest("alice", "sell", 30, 300, client_order_id="cancelled")
    given.accept(commands.CancelOrder(user_id="alice", order_id=cancelled))
    return given


def _freeze(given: Scenario) -> None:
    given.accept(commands.FreezeAccount(user_id="alice", reason="r"))


def _halt(given: Scenario) -> None:
    given.accept(commands.HaltMarket(market_id=MARKET, reason="r"))


def _spend(asset_id: str) -> Before:
    def spend(given: Scenario) -> None:
        available, _ = given.balance("alice", asset_id)
        given.accept(given.withdraw("alice", asset_id, available))

    return spend


def _rules(**rules: Any) -> Before:
    return lambda given: given.configure(**rules)


def _offer_at_140(given: Scenario) -> None:
    given.rest("bob", "sell", 100, 140)


def _bid_at_140_below_a_post_only_offer(given: Scenario) -> None:
    given.deposit("alice", "DUR", 10)
    assert given.rest("alice", "sell", 10, 310, post_only=True) == 6
    given.rest("bob", "buy", 100, 140)


def _one_order_too_many(given: Scenario) -> None:
    given.rest("alice", "buy", 10, 130)
    given.configure(open_orders_max=1)


def _cancel_asks(given: Scenario) -> None:
    given.accept(commands.CancelAllOrders(user_id="bob"))
    given.accept(commands.CancelAllOrders(user_id="alice"))


def _bad(field: str) -> list[Fault]:
    return [Fault(Code.INVALID_ID, {field: text}) for text in BAD_IDS]


ORDER = commands.PlaceOrder(
    user_id="alice",
    client_order_id="fresh",
    market_id=MARKET,
    side="buy",
    order_type="limit",
    price_minor=140,
    quantity_minor=200,
)
MARKET_ORDER = msgspec.structs.replace(ORDER, order_type="market", price_minor=None)
ACCEPTED: dict[str, commands.LedgerCommand] = {
    "open_ledger": genesis(),
    "open_market": market(base_asset="TOK"),
    "configure_market": commands.ConfigureMarket(market_id=MARKET, rules=MarketRules()),
    "halt_market": commands.HaltMarket(market_id=MARKET, reason="r"),
    "resume_market": commands.ResumeMarket(market_id="TOK-CNY"),
    "schedule_emission": commands.ScheduleEmission(from_second=1 << 40, reward_minor=10**36),
    "configure_reserve_burn": commands.ConfigureReserveBurn(amount_minor=10**36),
    "open_account": commands.OpenAccount(user_id="newcomer"),
    "freeze_account": commands.FreezeAccount(user_id="alice", reason="r"),
    "unfreeze_account": commands.UnfreezeAccount(user_id="frozen"),
    "deposit_funds": commands.DepositFunds(
        user_id="alice", asset_id="CNY", amount_minor=10**36, reference="fresh"
    ),
    "withdraw_funds": commands.WithdrawFunds(
        user_id="alice", asset_id="CNY", amount_minor=ALICE_CNY, reference="fresh"
    ),
    "grant_contribution": commands.GrantContribution(
        user_id="alice", grant_id="fresh", source="s", weight=1 << 63, expires_second=1 << 40
    ),
    "adjust_contribution": commands.AdjustContribution(
        user_id="alice", grant_id="given", weight=1 << 63, expires_second=1 << 40
    ),
    "settle_accrual": commands.SettleAccrual(user_id="alice"),
    "place_order": ORDER,
    "place_market_order": MARKET_ORDER,
    "place_budget_order": msgspec.structs.replace(
        MARKET_ORDER, quantity_minor=None, quote_budget_minor=200
    ),
    "replace_order": commands.ReplaceOrder(
        user_id="alice", order_id=4, new_client_order_id="fresh", price_minor=290, quantity_minor=90
    ),
    "shrink_order": commands.ReplaceOrder(
        user_id="alice", order_id=4, new_client_order_id="fresh", price_minor=300, quantity_minor=20
    ),
    "cancel_order": commands.CancelOrder(user_id="alice", order_id=4),
    "cancel_all_orders": commands.CancelAllOrders(user_id="alice", market_id=MARKET),
}


def prepare(name: str, given: Scenario) -> None:
    """What only this command needs to be accepted."""
    if name == "resume_market":
        given.accept(market(base_asset="TOK"))
        given.accept(commands.HaltMarket(market_id="TOK-CNY", reason="r"))
    if name == "unfreeze_account":
        given.accept(commands.OpenAccount(user_id="frozen"))
        given.accept(commands.FreezeAccount(user_id="frozen", reason="r"))


_UNKNOWN_ACCOUNT = Fault(Code.UNKNOWN_ACCOUNT, {"user_id": "nobody"})
_FROZEN = Fault(Code.ACCOUNT_FROZEN, {"user_id": "alice"}, _freeze)
_HALTED = Fault(Code.MARKET_HALTED, before=_halt)
_UNKNOWN_MARKET = Fault(Code.UNKNOWN_MARKET, {"market_id": "nowhere"})
_OFF_LOT = Fault(Code.QUANTITY_OFF_LOT, {"quantity_minor": 15})
_MINIMUM = Fault(Code.BELOW_MIN_NOTIONAL, before=_rules(min_notional_minor=10**6))
_BAD_RULES = [
    Fault(Code.INVALID_RULES, {"rules": MarketRules(**rule)})
    for rule in (
        {"burn_bps": -1},
        {"burn_bps": 10_000},
        {"maker_fee_bps": -1},
        {"maker_fee_bps": 10_000},
        {"taker_fee_bps": -1},
        {"taker_fee_bps": 10_000},
        {"band_bps": 0},
        {"band_bps": 100_001},
        {"min_notional_minor": -1},
        {"min_notional_minor": TOO_MUCH},
        {"open_orders_max": 0},
        {"open_orders_max": 10_001},
    )
]


def _amounts(field: str, *, least: int = 1) -> list[Fault]:
    return [Fault(Code.INVALID_AMOUNT, {field: amount}) for amount in (least - 1, -10, 10**36 + 1)]


_ORDERS = [
    *_bad("client_order_id"),
    _UNKNOWN_MARKET,
    _UNKNOWN_ACCOUNT,
    _FROZEN,
    Fault(Code.DUPLICATE_CLIENT_ORDER_ID, {"client_order_id": "resting"}),
    Fault(Code.DUPLICATE_CLIENT_ORDER_ID, {"client_order_id": "cancelled"}),
    _HALTED,
    Fault(Code.INSUFFICIENT_FUNDS, before=_spend("CNY")),
]
_RESTING = {"time_in_force": "gtc"}
_PLACED_ANEW = [
    Fault(Code.PRICE_OFF_TICK, {"price_minor": 145}),
    Fault(Code.PRICE_OUTSIDE_BAND, before=_rules(band_bps=1)),
    _MINIMUM,
    Fault(Code.TOO_MANY_OPEN_ORDERS, _RESTING, _rules(open_orders_max=1)),
]
_REPLACED = [
    *_bad("new_client_order_id"),
    *_amounts("price_minor"),
    *_amounts("quantity_minor"),
    _UNKNOWN_ACCOUNT,
    _FROZEN,
    Fault(Code.UNKNOWN_ORDER, {"order_id": 3}),
    Fault(Code.UNKNOWN_ORDER, {"order_id": 5}),
    _OFF_LOT,
    _MINIMUM,
]
FAULTS: dict[str, list[Fault]] = {
    "open_ledger": [
        *_bad("mined_asset"),
        Fault(Code.INVALID_ASSET, {"assets": (AssetSpec(asset_id="DUR", scale=2),) * 2}),
        *(
            Fault(Code.INVALID_ASSET, {"assets": (AssetSpec(asset_id=asset_id, scale=scale),)})
            for asset_id, scale in (("D R", 2), ("DUR", 19), ("DUR", -1))
        ),
        *_amounts("pool_minor"),
        *_amounts("treasury_minor", least=0),
        Fault(Code.INVALID_SCHEDULE, {"genesis_second": -1}),
        Fault(Code.INVALID_SCHEDULE, {"genesis_second": (1 << 40) + 1}),
        *(
            Fault(Code.INVALID_SCHEDULE, {"emission": genesis(emission=entries).emission})
            for entries in (
                ((5, 1), (4, 1)),
                ((5, 1), (5, 2)),
                ((-1, 1),),
                (((1 << 40) + 1, 1),),
                ((0, -1),),
                ((0, 10**36 + 1),),
            )
        ),
        Fault(Code.UNKNOWN_ASSET, {"mined_asset": "XXX"}),
    ],
    "open_market": [
        *_bad("market_id"),
        Fault(Code.INVALID_STEP, {"tick_minor": 0}),
        Fault(Code.INVALID_STEP, {"lot_minor": -10}),
        Fault(Code.INVALID_STEP, {"lot_minor": 10**36 + 1}),
        Fault(Code.INVALID_STEP, {"base_asset": "TOK", "tick_minor": 7}),
        *_BAD_RULES,
        Fault(Code.INVALID_RULES, {"base_asset": "TOK", "quote_asset": "TOK"}),
        Fault(Code.UNKNOWN_ASSET, {"base_asset": "XXX"}),
        Fault(Code.UNKNOWN_ASSET, {"quote_asset": "XXX"}),
        Fault(Code.MARKET_ALREADY_OPEN, {"market_id": MARKET}),
    ],
    "configure_market": [*_bad("market_id"), *_BAD_RULES, _UNKNOWN_MARKET],
    "halt_market": [*_bad("reason"), _UNKNOWN_MARKET, _HALTED],
    "resume_market": [
        *_bad("market_id"),
        _UNKNOWN_MARKET,
        Fault(Code.MARKET_NOT_HALTED, {"market_id": MARKET}),
    ],
    "schedule_emission": [
        *_amounts("reward_minor", least=0),
        *(
            Fault(Code.INVALID_SCHEDULE, {"from_second": second})
            for second in (NOW, 0, -1, (1 << 40) + 1)
        ),
    ],
    "configure_reserve_burn": _amounts("amount_minor", least=0),
    "open_account": [
        *_bad("user_id"),
        Fault(Code.ACCOUNT_ALREADY_OPEN, {"user_id": "alice"}),
    ],
    "freeze_account": [*_bad("reason"), _UNKNOWN_ACCOUNT, _FROZEN],
    "unfreeze_account": [
        *_bad("user_id"),
        _UNKNOWN_ACCOUNT,
        Fault(Code.ACCOUNT_NOT_FROZEN, {"user_id": "alice"}),
    ],
    "deposit_funds": [
        *_bad("user_id"),
        *_amounts("amount_minor"),
        Fault(Code.UNKNOWN_ASSET, {"asset_id": "XXX"}),
        Fault(Code.DUPLICATE_REFERENCE, {"reference": "booked"}),
    ],
    "withdraw_funds": [
        *_bad("asset_id"),
        *_amounts("amount_minor"),
        Fault(Code.UNKNOWN_ASSET, {"asset_id": "XXX"}),
        Fault(Code.DUPLICATE_REFERENCE, {"reference": "booked"}),
        _UNKNOWN_ACCOUNT,
        _FROZEN,
        Fault(Code.INSUFFICIENT_FUNDS, {"amount_minor": ALICE_CNY + 1}),
        Fault(Code.INSUFFICIENT_FUNDS, before=_spend("CNY")),
    ],
    "grant_contribution": [
        *_bad("source"),
        *(Fault(Code.INVALID_WEIGHT, {"weight": weight}) for weight in (-1, 0, (1 << 63) + 1)),
        *(
            Fault(Code.INVALID_EXPIRY, {"expires_second": second})
            for second in (NOW, 0, -1, (1 << 40) + 1)
        ),
        Fault(Code.DUPLICATE_GRANT, {"grant_id": "given"}),
        Fault(Code.DUPLICATE_GRANT, {"grant_id": "ended", "user_id": "carol"}),
    ],
    "adjust_contribution": [
        *_bad("grant_id"),
        *(Fault(Code.INVALID_WEIGHT, {"weight": weight}) for weight in (-1, (1 << 63) + 1)),
        *(
            Fault(Code.INVALID_EXPIRY, {"expires_second": second})
            for second in (NOW, 0, (1 << 40) + 1)
        ),
        _UNKNOWN_ACCOUNT,
        Fault(Code.UNKNOWN_GRANT, {"grant_id": "never"}),
        Fault(Code.UNKNOWN_GRANT, {"user_id": "carol", "grant_id": "ended"}),
        Fault(Code.UNKNOWN_GRANT, {"user_id": "bob"}),
    ],
    "settle_accrual": [
        *_bad("user_id"),
        _UNKNOWN_ACCOUNT,
        _FROZEN,
        Fault(Code.NOTHING_TO_SETTLE, {"user_id": "bob"}),
        Fault(
            Code.NOTHING_TO_SETTLE,
            before=lambda given: given.accept(commands.SettleAccrual(user_id="alice")),
        ),
    ],
    "place_order": [
        *_ORDERS,
        *_PLACED_ANEW,
        *_amounts("price_minor"),
        *_amounts("quantity_minor"),
        Fault(Code.INVALID_AMOUNT, {"quote_budget_minor": 0}),
        Fault(Code.INVALID_ORDER, {"price_minor": None}),
        Fault(Code.INVALID_ORDER, {"quantity_minor": None}),
        Fault(Code.INVALID_ORDER, {"order_type": "market"}),
        Fault(Code.INVALID_ORDER, {"quote_budget_minor": 10}),
        Fault(Code.INVALID_ORDER, {"quantity_minor": None, "quote_budget_minor": 10}),
        Fault(Code.INVALID_ORDER, {"post_only": True, "time_in_force": "ioc"}),
        Fault(Code.INVALID_ORDER, {"post_only": True, "time_in_force": "fok"}),
        _OFF_LOT,
        Fault(Code.POST_ONLY_WOULD_TRADE, {"post_only": True, **_RESTING}, _offer_at_140),
        Fault(Code.WOULD_NOT_FILL, {"time_in_force": "fok"}),
    ],
    "place_market_order": [
        *_ORDERS,
        *_amounts("quantity_minor"),
        Fault(Code.INVALID_ORDER, {"price_minor": 100}),
        Fault(Code.INVALID_ORDER, {"quantity_minor": None}),
        Fault(Code.INVALID_ORDER, {"quote_budget_minor": 10}),
        Fault(Code.INVALID_ORDER, {"post_only": True}),
        _OFF_LOT,
        Fault(Code.WOULD_NOT_FILL, {"time_in_force": "fok"}),
        Fault(Code.NO_LIQUIDITY, before=_cancel_asks),
        Fault(Code.NO_LIQUIDITY, {"side": "sell"}),
        Fault(Code.NO_LIQUIDITY, before=_rules(band_bps=1)),
    ],
    "place_budget_order": [
        *_ORDERS,
        *_amounts("quote_budget_minor"),
        Fault(Code.INVALID_ORDER, {"price_minor": 100}),
        Fault(Code.INVALID_ORDER, {"quantity_minor": 10}),
        Fault(Code.INVALID_ORDER, {"time_in_force": "fok"}),
        Fault(Code.INVALID_ORDER, {"post_only": True}),
        _MINIMUM,
        Fault(Code.NO_LIQUIDITY, before=_cancel_asks),
        # One lot costs 20.
        Fault(Code.NO_LIQUIDITY, {"quote_budget_minor": 19}),
    ],
    "replace_order": [
        *_REPLACED,
        *_PLACED_ANEW[:-1],
        Fault(Code.DUPLICATE_CLIENT_ORDER_ID, {"new_client_order_id": "resting"}),
        Fault(Code.DUPLICATE_CLIENT_ORDER_ID, {"new_client_order_id": "cancelled"}),
        _HALTED,
        Fault(Code.TOO_MANY_OPEN_ORDERS, before=_one_order_too_many),
        Fault(
            Code.POST_ONLY_WOULD_TRADE,
            {"order_id": 6, "price_minor": 140},
            _bid_at_140_below_a_post_only_offer,
        ),
        Fault(Code.INSUFFICIENT_FUNDS, {"quantity_minor": 1_000}),
        Fault(Code.INSUFFICIENT_FUNDS, before=_spend("DUR")),
    ],
    "shrink_order": _REPLACED,
    "cancel_order": [
        *_bad("user_id"),
        Fault(Code.UNKNOWN_ORDER, {"order_id": 3}),
        Fault(Code.UNKNOWN_ORDER, {"order_id": 5}),
        Fault(Code.UNKNOWN_ORDER, {"order_id": 0}),
        Fault(Code.UNKNOWN_ORDER, {"user_id": "bob"}),
        Fault(Code.UNKNOWN_ORDER, {"user_id": "nobody"}),
    ],
    "cancel_all_orders": [
        *_bad("user_id"),
        _UNKNOWN_MARKET,
        Fault(Code.NO_OPEN_ORDERS, {"user_id": "carol"}),
        Fault(Code.NO_OPEN_ORDERS, {"user_id": "nobody", "market_id": None}),
        Fault(Code.NO_OPEN_ORDERS, before=_freeze),
    ],
}
