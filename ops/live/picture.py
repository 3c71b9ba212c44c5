"""What the live view knows of a stack: newest state of each channel, bounded, ready to be drawn.

Applies stream messages and answers; asks nobody and draws nothing. Money stays decimal strings.
"""

import time
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Literal

import msgspec

from schemas.accrual import accrued_minor
from schemas.amounts import format_amount
from schemas.publications import Burn, BurnPublication, Kline, MiningPool, Pulse, Ticker, Trade
from schemas.wire import (
    BurnPage,
    ContributionSummary,
    Market,
    Miner,
    MiningShare,
    Page,
    Pub,
    Snapshot,
)

CANDLES_MAX = 160
ROWS_MAX = 100
KLINE_INTERVAL = "1m"

Link = Literal["connecting", "live", "reconnecting"]

_pulse = msgspec.json.Decoder(Pulse | None).decode
_pool = msgspec.json.Decoder(MiningPool | None).decode
_ticker = msgspec.json.Decoder(Ticker | None).decode
_kline = msgspec.json.Decoder(Kline | None).decode
_trades = msgspec.json.Decoder(Page[Trade]).decode
_trade = msgspec.json.Decoder(Trade).decode
_burns = msgspec.json.Decoder(BurnPage).decode
_burn = msgspec.json.Decoder(BurnPublication).decode


class MarketPicture:
    """One market. trades, burns: oldest first. burned_total: of the market, "" before any."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.ticker: Ticker | None = None
        self.trades: deque[Trade] = deque(maxlen=ROWS_MAX)
        self.burns: deque[Burn] = deque(maxlen=ROWS_MAX)
        self.burned_total = ""
        # A snapshot brings the open candle only: the closed ones have to be asked for.
        self.misses_candles = True
        self._candles: dict[int, Kline] = {}

    @property
    def candles(self) -> list[Kline]:
        """Oldest first, at most CANDLES_MAX."""
        return [self._candles[opened] for opened in sorted(self._candles)]

    def add_candles(self, candles: tuple[Kline, ...]) -> None:
        for candle in candles:
            known = self._candles.get(candle.open_time)
            # An answer can be older than what the stream has brought since it was asked for.
            if known is None or known.last_position <= candle.last_position:
                self._candles[candle.open_time] = candle
        for opened in sorted(self._candles)[:-CANDLES_MAX]:
            del self._candles[opened]

    def last_price(self) -> str:
        """ "" before the first trade."""
        if self.trades:
            return self.trades[-1].price
        return self.ticker.last if self.ticker else ""


class Picture:
    """A whole stack, as far as it has been heard of. on_pulse: called after each new second."""

    def __init__(self, on_pulse: Callable[["Picture"], None] | None = None) -> None:
        self.link: Link = "connecting"
        self.trouble = ""
        self.pulse: Pulse | None = None
        self.pulse_at_s = time.monotonic()
        self.pool: MiningPool | None = None
        self.markets: dict[str, MarketPicture] = {}
        self.miners = 0
        self.top: tuple[Miner, ...] = ()
        self.shares: dict[str, MiningShare] = {}
        self._on_pulse = on_pulse

    def set_markets(self, markets: tuple[Market, ...]) -> None:
        for market in markets:
            self.markets.setdefault(market.market, MarketPicture(market))

    def set_summary(self, summary: ContributionSummary) -> None:
        self.miners, self.top = summary.miners, summary.top

    def apply_snapshot(self, message: Snapshot) -> None:
        """Replace what the channel showed."""
        kind, market = self._place(message.ch)
        data = message.data
        if kind == "pulse":
            self._beat(_pulse(data))
        elif kind == "mining":
            self.pool = _pool(data)
        elif market is None:
            return
        elif kind == "ticker":
            market.ticker = _ticker(data)
        elif kind == "trades":
            market.trades.clear()
            market.trades.extend(_trades(data).items)
        elif kind == "kline":
            market.misses_candles = True
        elif kind == "burns":
            market.burned_total = _burns(data).cumulative
            market.burns.clear()

    def apply_publication(self, message: Pub) -> None:
        kind, market = self._place(message.ch)
        data = message.data
        if kind == "pulse":
            self._beat(_pulse(data))
        elif kind == "mining":
            self.pool = _pool(data)
        elif market is None:
            return
        elif kind == "ticker":
            market.ticker = _ticker(data)
        elif kind == "trades":
            market.trades.append(_trade(data))
        elif kind == "kline":
            candle = _kline(data)
            market.add_candles((candle,) if candle else ())
        elif kind == "burns":
            published = _burn(data)
            burn = published.trade or published.reserve
            if burn is not None:
                market.burns.append(burn)
                market.burned_total = burn.burned_total

    def allocated(self) -> Decimal:
        """What the pool has paid by the pulse's second; its own channel speaks once a minute."""
        if self.pool is None:
            return Decimal(0)
        since = max(self.pulse.second - self.pool.second, 0) if self.pulse else 0
        reward = Decimal(self.pulse.reward) if self.pulse else Decimal(0)
        return min(Decimal(self.pool.allocated) + reward * since, Decimal(self.pool.pool))

    def mined(self, user_id: str) -> str | None:
        """All a user mined so far, settled or not, at the pulse's index; None if it is not known.

        Without the last change of weight the sum is late by seconds, never wrong for long.
        """
        share = self.shares.get(user_id)
        if share is None:
            return None
        index = max(int(share.index), int(self.pulse.index) if self.pulse else 0)
        accrued = accrued_minor(
            weight=int(share.weight),
            index=index,
            entry_index=int(share.entry_index),
            entry_fraction=int(share.entry_fraction),
        )
        settled = int(Decimal(share.settled).scaleb(share.scale))
        return format_amount(settled + accrued, share.scale)

    def _beat(self, pulse: Pulse | None) -> None:
        if pulse is None or (self.pulse is not None and pulse.second == self.pulse.second):
            return
        self.pulse, self.pulse_at_s = pulse, time.monotonic()
        if self._on_pulse is not None:
            self._on_pulse(self)

    def _place(self, channel: str) -> tuple[str, MarketPicture | None]:
        kind, _, market_id = channel.partition(".")
        if kind == "kline":
            market_id = market_id.rpartition(".")[0]
        return kind, self.markets.get(market_id)


def channels_of(markets: tuple[str, ...]) -> list[str]:
    """Every channel the view shows."""
    names = ["pulse", "mining"]
    for market in markets:
        names += [f"ticker.{market}", f"kline.{market}.{KLINE_INTERVAL}", f"burns.{market}"]
        names.append(f"trades.{market}")
    return names


def plain_line(picture: Picture) -> str:
    """One second for a log; with several markets, price and burned name each one."""
    pulse = picture.pulse
    assert pulse is not None
    prices = _by_market(pulse.prices, picture)
    burned = _by_market(_burned(picture), picture)
    return (
        f"second={pulse.second} price={prices} burned={burned} "
        f"weight={pulse.weight_total} reward={pulse.reward}"
    )


def pulse_values(picture: Picture) -> dict[str, object]:
    """One second for a program."""
    pulse = picture.pulse
    assert pulse is not None
    values: dict[str, object] = msgspec.to_builtins(pulse)
    values["burned"] = _burned(picture)
    if picture.pool is not None:
        values["allocated"] = format(picture.allocated(), "f")
        values["remaining"] = format(Decimal(picture.pool.pool) - picture.allocated(), "f")
    return values


def _burned(picture: Picture) -> dict[str, str]:
    totals = {name: market.burned_total for name, market in picture.markets.items()}
    return {name: total for name, total in totals.items() if total}


def _by_market(texts: dict[str, str], picture: Picture) -> str:
    if len(picture.markets) > 1:
        return ",".join(f"{name}:{texts[name]}" for name in sorted(texts)) or "-"
    return next(iter(texts.values()), "-")
