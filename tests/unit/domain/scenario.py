"""Given, when, then for the ledger: a small open ledger and what becomes of each command.

Amounts are round: every asset has 2 decimals, and tick 10 x lot 10 is one quote minor unit, so that
100 minor units of DUR at price 100 cost 100 minor units of CNY.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from domain.ledger import Decision, decide, evolve, tick
from domain.mining import SECOND_NS
from domain.snapshot import dump
from domain.state import LedgerState
from schemas import commands
from schemas.commands import EmissionEntry
from schemas.events import (
    AssetSpec,
    Event,
    LedgerEvent,
    MarketConfigured,
    MarketRules,
    OrderPlaced,
    OrderType,
    Side,
    TimeInForce,
)
from schemas.rejections import Rejection
from schemas.snapshots import encode_snapshot

GENESIS_SECOND = 1_700_000_000
FUNDS = 1_000_000
MARKET = "DUR-CNY"
Kind = TypeVar("Kind", bound=Event)


def genesis(
    *,
    pool_minor: int = 1_000_000,
    emission: Sequence[tuple[int, int]] = ((0, 100),),
    treasury_minor: int = 0,
    genesis_second: int = GENESIS_SECOND,
) -> commands.OpenLedger:
    """emission: (after_seconds, reward_minor)."""
    return commands.OpenLedger(
        genesis_second=genesis_second,
        mined_asset="DUR",
        pool_minor=pool_minor,
        treasury_minor=treasury_minor,
        assets=tuple(AssetSpec(asset_id=asset_id, scale=2) for asset_id in ("DUR", "CNY", "TOK")),
        emission=tuple(
            EmissionEntry(after_seconds=after, reward_minor=reward) for after, reward in emission
        ),
    )


def market(burn_bps: int = 100, *, base_asset: str = "DUR", **rules: Any) -> commands.OpenMarket:
    """rules: fields of MarketRules besides burn_bps."""
    return commands.OpenMarket(
        market_id=f"{base_asset}-CNY",
        base_asset=base_asset,
        quote_asset="CNY",
        tick_minor=10,
        lot_minor=10,
        rules=MarketRules(burn_bps=burn_bps, **rules),
    )


class Scenario:
    """An open ledger with one market; log: every event so far."""

    def __init__(
        self,
        *,
        pool_minor: int = 1_000_000,
        emission: Sequence[tuple[int, int]] = ((0, 100),),
        burn_bps: int = 100,
        treasury_minor: int = 0,
        genesis_second: int = GENESIS_SECOND,
        **rules: Any,
    ) -> None:
        self.state = LedgerState()
        self.log: list[LedgerEvent] = []
        self.second = genesis_second - 1
        self._names = 0
        opening = genesis(
            pool_minor=pool_minor,
            emission=emission,
            treasury_minor=treasury_minor,
            genesis_second=genesis_second,
        )
        self.accept(opening)
        self.accept(market(burn_bps, **rules))
        self.tick()

    @property
    def now_ns(self) -> int:
        return max(self.second * SECOND_NS, self.state.at_ns)

    def decide(self, command: commands.LedgerCommand) -> Decision:
        return decide(command, self.state, self.now_ns)

    def accept(self, command: commands.LedgerCommand) -> tuple[LedgerEvent, ...]:
        """What an accepted command leads to; it must not be refused."""
        decided = self.decide(command)
        assert not isinstance(decided, Rejection), (command, decided)
        for event in decided:
            evolve(self.state, event)
        self.log.extend(decided)
        return decided

    def refuse(self, command: commands.LedgerCommand) -> Rejection:
        """Why a command is refused; deciding changes nothing either way."""
        before = fingerprint(self.state)
        decided = self.decide(command)
        assert fingerprint(self.state) == before
        assert isinstance(decided, Rejection), decided
        return decided

    def tick(self, seconds: int = 1) -> tuple[LedgerEvent, ...]:
        """Events of the last of these seconds."""
        happened: tuple[LedgerEvent, ...] = ()
        for _ in range(seconds):
            self.second += 1
            happened = tick(self.state, self.second)
            self.log.extend(happened)
        return happened

    def deposit(self, user_id: str, asset_id: str, amount_minor: int) -> None:
        command = commands.DepositFunds(
            user_id=user_id, asset_id=asset_id, amount_minor=amount_minor, reference=self._name()
        )
        self.accept(command)

    def grant(
        self,
        user_id: str,
        weight: int,
        *,
        expires_second: int | None = None,
        grant_id: str | None = None,
    ) -> tuple[LedgerEvent, ...]:
        return self.accept(
            commands.GrantContribution(
                user_id=user_id,
                grant_id=grant_id or self._name(),
                source="test",
                weight=weight,
                expires_second=expires_second,
            )
        )

    def order(
        self,
        user_id: str,
        side: Side,
        quantity: int | None,
        price: int | None,
        time_in_force: TimeInForce = "gtc",
        **fields: Any,
    ) -> commands.PlaceOrder:
        """price None: a market order. fields: any others of PlaceOrder."""
        order_type: OrderType = "market" if price is None else "limit"
        order = commands.PlaceOrder(
            user_id=user_id,
            client_order_id=self._name(),
            market_id=MARKET,
            side=side,
            order_type=order_type,
            time_in_force=time_in_force,
            price_minor=price,
            quantity_minor=quantity,
        )
        return msgspec.structs.replace(order, **fields)

    def place(
        self,
        user_id: str,
        side: Side,
        quantity: int | None,
        price: int | None,
        time_in_force: TimeInForce = "gtc",
        **fields: Any,
    ) -> tuple[LedgerEvent, ...]:
        """Place an order that must be accepted."""
        return self.accept(self.order(user_id, side, quantity, price, time_in_force, **fields))

    def rest(self, user_id: str, side: Side, quantity: int, price: int, **fields: Any) -> int:
        """The id of an order that is placed and meets nobody."""
        (placed,) = self.place(user_id, side, quantity, price, **fields)
        assert isinstance(placed, OrderPlaced)
        return placed.order_id

    def replace(
        self, user_id: str, order_id: int, quantity: int, price: int, new_id: str | None = None
    ) -> commands.ReplaceOrder:
        """new_id None: a client order id that nobody used yet."""
        return commands.ReplaceOrder(
            user_id=user_id,
            order_id=order_id,
            new_client_order_id=new_id or self._name(),
            price_minor=price,
            quantity_minor=quantity,
        )

    def configure(self, market_id: str = MARKET, **rules: Any) -> None:
        """Change some of a market's rules and keep the others."""
        changed = msgspec.structs.replace(self.state.markets[market_id].rules, **rules)
        command = commands.ConfigureMarket(market_id=market_id, rules=changed)
        (configured,) = self.accept(command)
        assert isinstance(configured, MarketConfigured)

    def withdraw(self, user_id: str, asset_id: str, amount_minor: int) -> commands.WithdrawFunds:
        return commands.WithdrawFunds(
            user_id=user_id, asset_id=asset_id, amount_minor=amount_minor, reference=self._name()
        )

    def queue(self, side: Side, market_id: str = MARKET) -> list[tuple[int, int]]:
        """(price_minor, order_id) of one side of a book, in the order in which a taker meets it."""
        resting = self.state.markets[market_id].book.side(side).queue()
        return [(price, order.order_id) for price, order in resting]

    def balance(self, user_id: str, asset_id: str) -> tuple[int, int]:
        """(available, held) minor units; zeros if the user never had any."""
        balance = self.state.accounts.users.get(user_id, {}).get(asset_id)
        return (balance.available_minor, balance.held_minor) if balance else (0, 0)

    def system(self, account: str, asset_id: str) -> int:
        return self.state.accounts.system.get((account, asset_id), 0)

    def _name(self) -> str:
        self._names += 1
        return f"n{self._names}"


def of_kind(happened: Sequence[LedgerEvent], kind: type[Kind]) -> list[Kind]:
    """The events of one type, in order."""
    return [event for event in happened if isinstance(event, kind)]


def replayed(log: Sequence[LedgerEvent]) -> LedgerState:
    """The state that a log adds up to."""
    state = LedgerState()
    for event in log:
        evolve(state, event)
    return state


def fingerprint(state: LedgerState) -> bytes:
    """The canonical bytes of a state: equal exactly when the states are."""
    return encode_snapshot(dump(state))


def funded_traders(burn_bps: int = 0) -> Scenario:
    """seller, other and buyer with FUNDS of both assets and an empty book."""
    given = Scenario(burn_bps=burn_bps)
    for user_id in ("seller", "other", "buyer"):
        given.deposit(user_id, "DUR", FUNDS)
        given.deposit(user_id, "CNY", FUNDS)
    return given
