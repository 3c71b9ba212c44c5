"""A balance that counts by the second, computed from `pulse` and `account` alone.

The same integers as the gateway's channel `balance`, for all who can do the arithmetic themselves:
one pulse serves every user. Exact; see docs/protocol.md, "A balance that counts by the second".
"""

from collections.abc import Collection, Mapping
from typing import Any

from schemas.accrual import accrued_minor
from schemas.amounts import format_amount, parse_amount
from schemas.publications import BalanceNow


class BalanceClock:
    """Fed with the states of both channels, in any order; now() is their sum.

    asset, scale: of what mining pays, as channel mining or GET mining/pool says.
    markets: those in which it is the base, and so has a price; None: all whose ids begin with it
    and a dash, as is our custom.
    """

    def __init__(self, asset: str, scale: int, markets: Collection[str] | None = None) -> None:
        self._asset = asset
        self._scale = scale
        self._markets = None if markets is None else frozenset(markets)
        self._pulse: Mapping[str, Any] | None = None
        self._account: Mapping[str, Any] | None = None

    def take(self, channel: str, state: Any) -> None:
        """Keep the state of pulse and account; other channels do not matter."""
        if channel == "pulse":
            self._pulse = state
        elif channel == "account":
            self._account = state

    def now(self) -> BalanceNow | None:
        """As of the pulse's second; None until both channels are known."""
        if self._pulse is None or self._account is None:
            return None
        mining = self._account["mining"]
        accrued = accrued_minor(
            weight=int(mining["weight"]),
            index=int(self._pulse["index"]),
            entry_index=int(mining["entry_index"]),
            entry_fraction=int(mining["entry_fraction"]),
        )
        amount = self._settled_minor(self._account["balances"]) + accrued
        return BalanceNow(
            second=self._pulse["second"],
            asset=self._asset,
            amount=format_amount(amount, self._scale),
            accrued=format_amount(accrued, self._scale),
            values={
                market: self._value(amount, price)
                for market, price in self._pulse["prices"].items()
                if self._is_priced_by(market)
            },
        )

    def _settled_minor(self, balances: Collection[Mapping[str, Any]]) -> int:
        totals = [held["total"] for held in balances if held["asset"] == self._asset]
        return parse_amount(totals[0], self._scale) if totals else 0

    def _is_priced_by(self, market: str) -> bool:
        if self._markets is None:
            return market.startswith(f"{self._asset}-")
        return market in self._markets

    def _value(self, amount_minor: int, price: str) -> str:
        # A price on the wire always has as many decimals as the quote asset's scale.
        quote_scale = len(price.partition(".")[2])
        price_minor = parse_amount(price, quote_scale)
        return format_amount(amount_minor * price_minor // 10**self._scale, quote_scale)
