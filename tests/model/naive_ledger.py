"""The whole ledger a second time, written from docs/rules.md alone: slow, short, by lists and sums.

`answer` and `tick` give what the domain should give: events as dicts in order, or a code. Trading
is in naive_trading.py; nothing here may be imported from domain/ or from schemas.accrual.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from schemas import commands as c
from schemas.events import MarketRules
from schemas.rejections import RejectionCode
from tests.model.naive_mining import NaiveGrant, NaiveMining
from tests.model.naive_state import (
    AMOUNT_MAX,
    NANOSECONDS,
    SECOND_MAX,
    Books,
    Event,
    NaiveMarket,
    Refused,
    event,
    is_amount,
    refuse_first,
)
from tests.model.naive_trading import NaiveTrading

WEIGHT_MAX = 2**63


def is_id(text: str) -> bool:
    return 1 <= len(text) <= 64 and all("!" <= character <= "~" for character in text)


class NaiveLedger(NaiveTrading):
    """One ledger from before its genesis on."""

    def __init__(self) -> None:
        super().__init__(Books())
        self.scales: dict[str, int] = {}
        self.references: list[str] = []
        self.reserve_burn = 0

    def answer(self, command: c.Command, now_ns: int) -> list[Event] | RejectionCode:
        """The command's events, already booked, or the code of its refusal."""
        self.now_ns = now_ns
        try:
            return self._carry_out(command)
        except Refused as refused:
            return refused.code

    def _carry_out(self, command: c.Command) -> list[Event]:
        if isinstance(command, c.OpenLedger):
            return self._open_ledger(command)
        if not self.is_open:
            raise Refused(RejectionCode.LEDGER_NOT_OPEN)
        values = msgspec.to_builtins(command).values()
        refuse_first(invalid_id=any(isinstance(v, str) and not is_id(v) for v in values))
        kind = type(command).__name__
        carry_out: dict[str, Callable[[Any], list[Event]]] = {
            "OpenMarket": self._open_market,
            "ConfigureMarket": self._configure_market,
            "HaltMarket": self._halt,
            "ResumeMarket": self._resume,
            "ScheduleEmission": self._schedule,
            "ConfigureReserveBurn": self._configure_reserve_burn,
            "OpenAccount": self._open_account,
            "FreezeAccount": self._freeze,
            "UnfreezeAccount": self._unfreeze,
            "DepositFunds": self._deposit,
            "WithdrawFunds": self._withdraw,
            "GrantContribution": self._grant,
            "AdjustContribution": self._adjust,
            "SettleAccrual": self._settle_accrual,
            "PlaceOrder": self.place,
            "ReplaceOrder": self.replace,
            "CancelOrder": self.cancel,
            "CancelAllOrders": self.cancel_all,
        }
        return carry_out[kind](command)

    def tick(self, second: int) -> list[Event]:
        at_ns = second * NANOSECONDS
        happened: list[Event] = []
        due = self.mining.due(second)
        if due:
            self.mining.close_time_of_these_weights()
        settled: list[str] = []
        for grant in due:
            if grant.user_id not in settled:
                happened += self.settle(grant.user_id, at_ns)
                settled.append(grant.user_id)
            grant.is_in_force = False
            happened.append(self._weight_event("contribution_expired", at_ns, grant))
        if second % 60 == 0:
            happened += self._burn_reserve(at_ns)
        allocated = self.mining.allocate(second)
        self.books.write("<pool>", self.mining.asset_id, -allocated["reward_minor"])
        self.books.write("<accrued>", self.mining.asset_id, allocated["reward_minor"])
        return [*happened, allocated]

    def _burn_reserve(self, at_ns: int) -> list[Event]:
        asset = self.mining.asset_id
        amount = min(self.reserve_burn, self.books.total("<treasury>", asset))
        if amount == 0:
            return []
        self.books.write("<treasury>", asset, -amount)
        return [self.burned(asset, amount, at_ns, "reserve")]

    def _open_ledger(self, command: c.OpenLedger) -> list[Event]:
        refuse_first(ledger_already_open=self.is_open)
        ids = [asset.asset_id for asset in command.assets]
        starts = [entry.after_seconds for entry in command.emission]
        rewards = [entry.reward_minor for entry in command.emission]
        refuse_first(
            invalid_id=not is_id(command.mined_asset),
            invalid_asset=len(set(ids)) < len(ids)
            or not all(
                is_id(asset.asset_id) and 0 <= asset.scale <= 18 for asset in command.assets
            ),
            invalid_amount=not is_amount(command.pool_minor)
            or not is_amount(command.treasury_minor, 0),
            invalid_schedule=not 0 <= command.genesis_second <= SECOND_MAX
            or starts != sorted(set(starts))
            or not all(0 <= start <= SECOND_MAX for start in starts)
            or not all(is_amount(reward, 0) for reward in rewards),
            unknown_asset=command.mined_asset not in ids,
        )
        genesis, asset = command.genesis_second, command.mined_asset
        self._opened = NaiveMining(asset, command.pool_minor, genesis)
        self.scales = {asset.asset_id: asset.scale for asset in command.assets}
        self.books.write("<pool>", asset, command.pool_minor)
        self.books.write("<treasury>", asset, command.treasury_minor)
        self.books.write("<issuance>", asset, -command.pool_minor - command.treasury_minor)
        opened = msgspec.to_builtins(command)
        del opened["type"], opened["emission"]
        self.now_ns = genesis * NANOSECONDS
        schedule = [
            (genesis + entry.after_seconds, entry.reward_minor) for entry in command.emission
        ]
        self.mining.schedule = schedule
        return [
            event("ledger_opened", self.now_ns, **opened),
            *(
                self._event("emission_scheduled", from_second=s, reward_minor=r)
                for s, r in schedule
            ),
        ]

    def _open_market(self, command: c.OpenMarket) -> list[Event]:
        tick, lot = command.tick_minor, command.lot_minor
        scale = self.scales.get(command.base_asset)
        unit = 1 if scale is None else 10**scale
        refuse_first(
            invalid_step=not 0 < tick <= AMOUNT_MAX
            or not 0 < lot <= AMOUNT_MAX
            or tick * lot % unit != 0,
            invalid_rules=_has_bad_rules(command.rules)
            or command.base_asset == command.quote_asset,
            unknown_asset=scale is None or command.quote_asset not in self.scales,
            market_already_open=self.books.market(command.market_id) is not None,
        )
        self.books.markets.append(NaiveMarket(command, command.rules, unit))
        fields = msgspec.to_builtins(command)
        del fields["type"]
        return [self._event("market_opened", **fields)]

    def _configure_market(self, command: c.ConfigureMarket) -> list[Event]:
        market = self.books.market(command.market_id)
        refuse_first(invalid_rules=_has_bad_rules(command.rules), unknown_market=market is None)
        assert market is not None
        market.rules = command.rules
        rules = msgspec.to_builtins(command.rules)
        return [self._event("market_configured", market_id=command.market_id, rules=rules)]

    def _halt(self, command: c.HaltMarket) -> list[Event]:
        market = self.books.market(command.market_id)
        refuse_first(unknown_market=market is None, market_halted=bool(market and market.is_halted))
        assert market is not None
        market.is_halted = True
        return [self._event("market_halted", market_id=command.market_id, reason=command.reason)]

    def _resume(self, command: c.ResumeMarket) -> list[Event]:
        market = self.books.market(command.market_id)
        is_running = market is not None and not market.is_halted
        refuse_first(unknown_market=market is None, market_not_halted=is_running)
        assert market is not None
        market.is_halted = False
        return [self._event("market_resumed", market_id=command.market_id)]

    def _schedule(self, command: c.ScheduleEmission) -> list[Event]:
        start, reward = command.from_second, command.reward_minor
        refuse_first(
            invalid_amount=not is_amount(reward, 0),
            invalid_schedule=not self._now_second < start <= SECOND_MAX,
        )
        self.mining.schedule.append((start, reward))
        return [self._event("emission_scheduled", from_second=start, reward_minor=reward)]

    def _configure_reserve_burn(self, command: c.ConfigureReserveBurn) -> list[Event]:
        refuse_first(invalid_amount=not is_amount(command.amount_minor, 0))
        self.reserve_burn = command.amount_minor
        return [self._event("reserve_burn_configured", amount_minor=command.amount_minor)]

    def _open_account(self, command: c.OpenAccount) -> list[Event]:
        refuse_first(account_already_open=command.user_id in self.accounts)
        return self._account_for(command.user_id)

    def _account_for(self, user_id: str) -> list[Event]:
        if user_id in self.accounts:
            return []
        self.accounts.append(user_id)
        return [self._event("account_opened", user_id=user_id)]

    def _freeze(self, command: c.FreezeAccount) -> list[Event]:
        self.refuse_unless_active(command.user_id)
        self.frozen.append(command.user_id)
        frozen = self._event("account_frozen", user_id=command.user_id, reason=command.reason)
        mine = self.books.open_orders(command.user_id)
        return [frozen, *(self.close(order, "account_frozen") for order in mine)]

    def _unfreeze(self, command: c.UnfreezeAccount) -> list[Event]:
        user_id = command.user_id
        refuse_first(
            unknown_account=user_id not in self.accounts,
            account_not_frozen=user_id not in self.frozen,
        )
        self.frozen.remove(user_id)
        return [self._event("account_unfrozen", user_id=user_id)]

    def _deposit(self, command: c.DepositFunds) -> list[Event]:
        refuse_first(
            invalid_amount=not is_amount(command.amount_minor),
            unknown_asset=command.asset_id not in self.scales,
            duplicate_reference=command.reference in self.references,
        )
        opened = self._account_for(command.user_id)
        return [*opened, self._transfer("funds_deposited", command, command.amount_minor)]

    def _withdraw(self, command: c.WithdrawFunds) -> list[Event]:
        user_id, asset, amount = command.user_id, command.asset_id, command.amount_minor
        refuse_first(
            invalid_amount=not is_amount(amount),
            unknown_asset=asset not in self.scales,
            duplicate_reference=command.reference in self.references,
            unknown_account=user_id not in self.accounts,
            account_frozen=user_id in self.frozen,
            insufficient_funds=self.could_spend(user_id, asset) < amount,
        )
        settled = self.settle_for(user_id, asset, amount)
        return [*settled, self._transfer("funds_withdrawn", command, -amount)]

    def _transfer(self, kind: str, command: c.DepositFunds | c.WithdrawFunds, amount: int) -> Event:
        self.references.append(command.reference)
        self.books.write(command.user_id, command.asset_id, amount)
        self.books.write("<external>", command.asset_id, -amount)
        fields = msgspec.to_builtins(command)
        del fields["type"]
        return self._event(kind, **fields)

    def _grant(self, command: c.GrantContribution) -> list[Event]:
        user_id = command.user_id
        known = self.mining.grant(user_id, command.grant_id)
        refuse_first(
            invalid_weight=not 1 <= command.weight <= WEIGHT_MAX,
            invalid_expiry=self._is_bad_expiry(command.expires_second),
            duplicate_grant=known is not None,
        )
        happened = [*self._account_for(user_id), *self._before_weight_change(user_id)]
        grant = NaiveGrant(
            user_id, command.grant_id, command.source, command.weight, command.expires_second
        )
        self.mining.grants.append(grant)
        granted = self._weight_event("contribution_granted", self.now_ns, grant)
        granted |= {"source": command.source, "expires_second": command.expires_second}
        return [*happened, granted]

    def _adjust(self, command: c.AdjustContribution) -> list[Event]:
        user_id = command.user_id
        grant = self.mining.grant(user_id, command.grant_id)
        refuse_first(
            invalid_weight=not 0 <= command.weight <= WEIGHT_MAX,
            invalid_expiry=self._is_bad_expiry(command.expires_second),
            unknown_account=user_id not in self.accounts,
            unknown_grant=grant is None or not grant.is_in_force,
        )
        assert grant is not None
        happened = self._before_weight_change(user_id)
        before, grant.weight = grant.weight, command.weight
        grant.expires_second, grant.is_in_force = command.expires_second, command.weight > 0
        adjusted = self._weight_event("contribution_adjusted", self.now_ns, grant)
        adjusted |= {"weight_before": before, "expires_second": command.expires_second}
        return [*happened, adjusted]

    def _before_weight_change(self, user_id: str) -> list[Event]:
        self.mining.close_time_of_these_weights()
        return self.settle(user_id, self.now_ns)

    def _weight_event(self, kind: str, at_ns: int, grant: NaiveGrant) -> Event:
        return event(
            kind,
            at_ns,
            user_id=grant.user_id,
            grant_id=grant.grant_id,
            weight=grant.weight,
            weight_after=self.mining.weight(grant.user_id),
            **self.mining.restart(grant.user_id),
        )

    def _is_bad_expiry(self, second: int | None) -> bool:
        return second is not None and not self._now_second < second <= SECOND_MAX

    def _settle_accrual(self, command: c.SettleAccrual) -> list[Event]:
        user_id = command.user_id
        refuse_first(
            unknown_account=user_id not in self.accounts,
            account_frozen=user_id in self.frozen,
            nothing_to_settle=self.mining.accrued(user_id) < 1,
        )
        return self.settle(user_id, self.now_ns)


def _has_bad_rules(rules: MarketRules) -> bool:
    band = rules.band_bps
    bps = (rules.burn_bps, rules.maker_fee_bps, rules.taker_fee_bps)
    return (
        not all(0 <= part <= 9_999 for part in bps)
        or (band is not None and not 1 <= band <= 100_000)
        or not 0 <= rules.min_notional_minor <= AMOUNT_MAX
        or not 1 <= rules.open_orders_max <= 10_000
    )
