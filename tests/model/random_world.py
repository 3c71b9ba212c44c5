"""Random ledgers and commands, drawn so that interesting meetings are common.

Few users, few prices, few markets with different rules, small limits, and now and then a command
with a spoilt field. What is drawn depends on the naive model's state, never on the domain's.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from schemas import commands as c
from schemas.events import AssetSpec, MarketRules, Side, TimeInForce
from tests.model.naive_ledger import NaiveLedger
from tests.model.naive_state import NANOSECONDS, NaiveMarket

START_SECOND = 1_800_000_000
USERS = ("ann", "bob", "cat", "dan")
# Command number -> seconds before it: a client order id is remembered for 172,800.
LONG_GAPS = {150: 172_799, 300: 172_800, 450: 172_801}
SPOILT_IN = {"open_ledger": 2, "open_market": 3, "configure_market": 3}
SPOILT_IN_OTHERS = 15
ASSETS = ("DUR", "CNY", "GAS")
MARKETS = ("DUR-CNY", "GAS-CNY", "GAS-DUR")
SIDES: tuple[Side, ...] = ("buy", "sell")
FORCES: tuple[TimeInForce, ...] = ("gtc", "gtc", "gtc", "gtc", "ioc", "fok")
BAD_TEXT = ("", "a b", "x" * 65, "caf\u00e9", "nobody", "x" * 64)
BAD_NUMBERS = (-1, 0, 1, 7, 2**40, 2**40 + 1, 2**63, 2**63 + 1, 10**36, 10**36 + 1)


class RandomWorld:
    """One ledger's random course. has_long_gaps: LONG_GAPS happen."""

    def __init__(self, random: Random, *, has_long_gaps: bool) -> None:
        self.random = random
        self.has_long_gaps = has_long_gaps
        self.pool = random.choice((3_000, 10**7, 10**30))
        self.rewards = (0, 1, 7, 1_000, self.pool // 300)
        if has_long_gaps:
            self.pool = 1_000  # soon empty, so that two days of ticks are quick
        self.client_ids = 12 if has_long_gaps else 2_000
        self.scales = {"DUR": random.choice((0, 1, 8)), "CNY": random.choice((0, 2)), "GAS": 1}
        self.weights = random.choice(((1, 2, 3), (1, 10, 997), (1, 2**62, 2**63)))
        self.reference = 0
        kinds: dict[Callable[[NaiveLedger], c.Command], int] = {
            self._place: 620,
            self._replace: 80,
            self._cancel: 25,
            self._cancel_all: 8,
            self._deposit: 70,
            self._withdraw: 35,
            self._grant: 40,
            self._adjust: 40,
            self._settle: 35,
            self._freeze: 4,
            self._unfreeze: 40,
            self._halt: 3,
            self._resume: 25,
            self._configure: 16,
            self._schedule: 12,
            self._reserve: 10,
            self._open_market: 16,
            self._open_account: 16,
            self._open_ledger: 4,
        }
        self.kinds, self.shares = list(kinds), list(kinds.values())

    def draw(self, number: int, ledger: NaiveLedger) -> tuple[int, c.Command]:
        """(nanoseconds since the command before, command); number: counts from 0."""
        return self._wait_ns(number), self._spoil(self._command(number, ledger))

    def _command(self, number: int, ledger: NaiveLedger) -> c.Command:
        if number > 0 and not ledger.is_open:
            return self._open_ledger(ledger)
        if 1 < number < 6:
            return self._open_market(ledger)
        if 6 <= number < 30:
            return self.random.choice((self._deposit, self._deposit, self._grant))(ledger)
        kind = self.random.choices(self.kinds, self.shares)[0]
        return kind(ledger)

    def _wait_ns(self, number: int) -> int:
        chance = self.random.random()
        if self.has_long_gaps and number in LONG_GAPS:
            return LONG_GAPS[number] * NANOSECONDS
        if number < 30 or chance < 0.5:
            return self.random.choice((0, 0, 1, 10**6))
        if chance < 0.85:
            return self.random.randrange(NANOSECONDS)
        if chance < 0.98:
            return self.random.randint(1, 4) * NANOSECONDS
        return self.random.randint(30, 150) * NANOSECONDS

    def _spoil(self, command: c.Command) -> c.Command:
        """Now and then one field gets a value that is wrong or at a limit."""
        kind = str(command.__struct_config__.tag)
        if self.random.randrange(SPOILT_IN.get(kind, SPOILT_IN_OTHERS)) != 0:
            return command
        name = self.random.choice(command.__struct_fields__)
        old = getattr(command, name)
        spoilt: Any
        if isinstance(old, MarketRules):
            spoilt = self._spoilt_rules(old)
        elif isinstance(old, tuple):
            spoilt = self._spoilt_rows(old)
        elif name in {"side", "order_type", "time_in_force", "self_trade_prevention"}:
            allowed = ("fok", "ioc") if name == "time_in_force" else (old,)
            spoilt = self.random.choice(allowed)
        elif isinstance(old, bool):
            spoilt = not old
        elif isinstance(old, str) or name == "market_id":
            spoilt = self.random.choice(BAD_TEXT)
        elif name == "genesis_second":
            # Not a small one: the model would tick through fifty years.
            spoilt = self.random.choice((-1, 2**40, 2**40 + 1, old + 1, old - 100))
        else:
            may_lack = isinstance(command, c.PlaceOrder) or name == "expires_second"
            spoilt = self._spoilt_number(old, [None] if may_lack else [])
        changed: c.Command = msgspec.structs.replace(command, **{name: spoilt})
        return changed

    def _spoilt_number(self, old: int | None, others: list[None]) -> int | None:
        near = [] if old is None else [old + 1, old - 1]
        return self.random.choice([*others, *near, *BAD_NUMBERS])

    def _spoilt_rules(self, rules: MarketRules) -> MarketRules:
        name = self.random.choice(rules.__struct_fields__)
        limits = (-1, 0, 1, 9_999, 10_000, 10_001, 100_000, 100_001, 10**36, 10**36 + 1)
        return msgspec.structs.replace(rules, **{name: self.random.choice(limits)})

    def _spoilt_rows(self, rows: tuple[Any, ...]) -> tuple[Any, ...]:
        how = self.random.randrange(3)
        if how == 0 or not rows:
            return rows[1:]
        if how == 1:
            return (*rows, rows[0])
        return (self._spoil_row(rows[0]), *rows[1:])

    def _spoil_row(self, row: Any) -> Any:
        name = self.random.choice(row.__struct_fields__)
        values = BAD_TEXT if isinstance(getattr(row, name), str) else (19, 18, *BAD_NUMBERS)
        return msgspec.structs.replace(row, **{name: self.random.choice(values)})

    def _user(self) -> str:
        return self.random.choice(USERS) if self.random.random() < 0.97 else "eve"

    def _asset(self) -> str:
        return self.random.choice(ASSETS)

    def _market(self, ledger: NaiveLedger) -> NaiveMarket | None:
        return self.random.choice(ledger.books.markets) if ledger.books.markets else None

    def _market_id(self) -> str:
        return self.random.choice(MARKETS)

    def _few(self, kind: str) -> str:
        return f"{kind}{self.random.randrange(30)}"

    def _rules(self) -> MarketRules:
        pick = self.random.choice
        return MarketRules(
            burn_bps=pick((0, 0, 10, 500, 1_000, 9_999)),
            maker_fee_bps=pick((0, 0, 1, 10, 100, 9_999)),
            taker_fee_bps=pick((0, 5, 250)),
            band_bps=pick((None, None, 1_000, 1_500, 2_500, 100_000)),
            min_notional_minor=pick((0, 0, 20, 200)),
            open_orders_max=pick((3, 6, 50)),
        )

    def _open_ledger(self, ledger: NaiveLedger) -> c.Command:
        """Genesis lies a little before or after the first commands."""
        genesis = ledger.now_ns // NANOSECONDS + self.random.choice((0, 0, -3, 1))
        emission = [
            c.EmissionEntry(after_seconds=after, reward_minor=self.random.choice(self.rewards))
            for after in (0, 40, 300)
        ]
        return c.OpenLedger(
            genesis_second=genesis,
            mined_asset="DUR",
            pool_minor=self.pool,
            treasury_minor=self.random.choice((0, 50, 10**6)),
            assets=tuple(AssetSpec(asset_id=asset, scale=self.scales[asset]) for asset in ASSETS),
            emission=tuple(emission[self.random.randrange(2) :]),
        )

    def _open_market(self, ledger: NaiveLedger) -> c.Command:
        unopened = [m for m in MARKETS if ledger.books.market(m) is None]
        market_id = self.random.choice(unopened or MARKETS)
        base, quote = market_id.split("-")
        unit = 10 ** ledger.scales.get(base, 0)
        tick = self.random.choice((1, 1, 30, 75))
        lot = unit if unit == 1 or tick % 10 else unit // 10
        return c.OpenMarket(
            market_id=market_id,
            base_asset=base,
            quote_asset=quote,
            tick_minor=tick,
            lot_minor=lot,
            rules=self._rules(),
        )

    def _configure(self, ledger: NaiveLedger) -> c.Command:
        return c.ConfigureMarket(market_id=self._market_id(), rules=self._rules())

    def _halt(self, ledger: NaiveLedger) -> c.Command:
        return c.HaltMarket(market_id=self._market_id(), reason="check")

    def _resume(self, ledger: NaiveLedger) -> c.Command:
        halted = [m.spec.market_id for m in ledger.books.markets if m.is_halted]
        return c.ResumeMarket(market_id=self.random.choice(halted or MARKETS))

    def _schedule(self, ledger: NaiveLedger) -> c.Command:
        soon = ledger.now_ns // NANOSECONDS + self.random.randint(0, 40)
        reward = self.random.choice(self.rewards)
        return c.ScheduleEmission(from_second=soon, reward_minor=reward)

    def _reserve(self, ledger: NaiveLedger) -> c.Command:
        return c.ConfigureReserveBurn(amount_minor=self.random.choice((0, 1, 20, 10**5)))

    def _open_account(self, ledger: NaiveLedger) -> c.Command:
        return c.OpenAccount(user_id=self.random.choice((*USERS, "eve", "fay")))

    def _freeze(self, ledger: NaiveLedger) -> c.Command:
        return c.FreezeAccount(user_id=self._user(), reason="check")

    def _unfreeze(self, ledger: NaiveLedger) -> c.Command:
        return c.UnfreezeAccount(user_id=self.random.choice(ledger.frozen or USERS))

    def _reference(self) -> str:
        self.reference += 1
        return f"r{self.random.choice((self.reference, self.random.randrange(self.reference)))}"

    def _deposit(self, ledger: NaiveLedger) -> c.Command:
        asset = self._asset()
        amount = self.random.choice((5, 2_000, 100_000)) * 10 ** self.scales[asset]
        return c.DepositFunds(
            user_id=self._user(), asset_id=asset, amount_minor=amount, reference=self._reference()
        )

    def _withdraw(self, ledger: NaiveLedger) -> c.Command:
        """Often exactly what could be spent, or one unit more."""
        user_id, asset = self._user(), self._asset()
        spendable = ledger.could_spend(user_id, asset) if ledger.is_open else 1
        amount = self.random.choice((spendable, spendable + 1, spendable // 2, 1))
        return c.WithdrawFunds(
            user_id=user_id,
            asset_id=asset,
            amount_minor=max(1, amount),
            reference=self._reference(),
        )

    def _expiry(self, ledger: NaiveLedger) -> int | None:
        now = ledger.now_ns // NANOSECONDS
        return self.random.choice((None, now + self.random.randint(0, 30), now + 200))

    def _grant(self, ledger: NaiveLedger) -> c.Command:
        return c.GrantContribution(
            user_id=self._user(),
            grant_id=self._few("g"),
            source="tests",
            weight=self.random.choice(self.weights),
            expires_second=self._expiry(ledger),
        )

    def _adjust(self, ledger: NaiveLedger) -> c.Command:
        user_id, grant_id = self._user(), self._few("g")
        in_force = [g for g in ledger.mining.grants if g.is_in_force] if ledger.is_open else []
        if in_force and self.random.random() < 0.8:
            grant = self.random.choice(in_force)
            user_id, grant_id = grant.user_id, grant.grant_id
        return c.AdjustContribution(
            user_id=user_id,
            grant_id=grant_id,
            weight=self.random.choice((0, *self.weights)),
            expires_second=self._expiry(ledger),
        )

    def _settle(self, ledger: NaiveLedger) -> c.Command:
        return c.SettleAccrual(user_id=self._user())

    def _price(self, market: NaiveMarket) -> int:
        return self.random.randint(7, 14) * market.spec.tick_minor

    def _quantity(self, market: NaiveMarket) -> int:
        lots = self.random.choice((1, 1, 2, 3, 5, 8, 30))
        return lots * market.spec.lot_minor

    def _all_of_it(self, ledger: NaiveLedger, market: NaiveMarket, user_id: str) -> int:
        """What the user could just sell after settling, or one lot more."""
        lot = market.spec.lot_minor
        lots = ledger.could_spend(user_id, market.spec.base_asset) // lot
        return max(1, lots + self.random.randrange(2)) * lot

    def _place(self, ledger: NaiveLedger) -> c.Command:
        market = self._market(ledger)
        if market is None:
            return self._deposit(ledger)
        pick, price, quantity = self.random.choice, self._price(market), self._quantity(market)
        user_id, side = self._user(), pick(SIDES)
        if side == "sell" and self.random.random() < 0.15:
            quantity = self._all_of_it(ledger, market, user_id)
        is_market = self.random.random() < 0.2
        is_budget = is_market and self.random.random() < 0.5
        forces = FORCES[:-1] if is_budget else FORCES
        force = pick(forces)
        budget = market.quote(price, quantity) + self.random.randrange(market.spec.tick_minor)
        return c.PlaceOrder(
            user_id=user_id,
            client_order_id=f"c{self.random.randrange(self.client_ids)}",
            market_id=market.spec.market_id,
            side=side,
            order_type="market" if is_market else "limit",
            time_in_force=force,
            post_only=not is_market and force == "gtc" and self.random.random() < 0.15,
            self_trade_prevention=pick(("cancel_newest", "cancel_oldest", "cancel_both")),
            price_minor=None if is_market else price,
            quantity_minor=None if is_budget else quantity,
            quote_budget_minor=budget if is_budget else None,
        )

    def _replace(self, ledger: NaiveLedger) -> c.Command:
        if not ledger.books.orders:
            return self._place(ledger)
        order = self.random.choice(ledger.books.orders)
        market, price = order.market, order.price or 0
        shrunk = max(order.leaves - market.spec.lot_minor, market.spec.lot_minor)
        return c.ReplaceOrder(
            user_id=order.user_id if self.random.random() < 0.97 else self._user(),
            order_id=order.order_id,
            new_client_order_id=f"c{self.random.randrange(self.client_ids)}",
            price_minor=self.random.choice((price, price, self._price(market))),
            quantity_minor=self.random.choice((shrunk, order.leaves, self._quantity(market))),
        )

    def _cancel(self, ledger: NaiveLedger) -> c.Command:
        number = self.random.randint(1, ledger.order_count + 1)
        if ledger.books.orders and self.random.random() < 0.8:
            order = self.random.choice(ledger.books.orders)
            return c.CancelOrder(user_id=order.user_id, order_id=order.order_id)
        return c.CancelOrder(user_id=self._user(), order_id=number)

    def _cancel_all(self, ledger: NaiveLedger) -> c.Command:
        market_id = self.random.choice((None, *MARKETS))
        return c.CancelAllOrders(user_id=self._user(), market_id=market_id)
