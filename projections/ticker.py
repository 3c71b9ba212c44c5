"""The last 24 hours of one market, to the minute: the merge of the open minute and the 1,439
before it.

Kept cheaply: sums of the closed minutes that had trades, and two queues whose heads are the
extremes.
"""

from collections import deque
from collections.abc import Iterable

from projections.burns import MINUTE_SECONDS
from schemas.views import Candle, TickerView

WINDOW_MINUTES = 1_440


def window_opens(open_second: int) -> int:
    """First second of the window whose newest minute opens at open_second."""
    return open_second - (WINDOW_MINUTES - 1) * MINUTE_SECONDS


class TickerWindow:
    """Closed minutes of the window that had trades; the open minute is given to view()."""

    __slots__ = ("_burned", "_highs", "_lows", "_minutes", "_quote_volume", "_trades", "_volume")

    def __init__(self, minutes: Iterable[Candle] = ()) -> None:
        self._minutes: deque[Candle] = deque()
        self._highs: deque[Candle] = deque()
        self._lows: deque[Candle] = deque()
        self._volume = self._quote_volume = self._trades = self._burned = 0
        for minute in minutes:
            self.add(minute)

    def add(self, minute: Candle) -> None:
        """Take in the minute that just closed; minutes without trades change nothing."""
        if minute.trade_count == 0:
            return
        self._minutes.append(minute)
        while self._highs and self._highs[-1].high <= minute.high:
            self._highs.pop()
        self._highs.append(minute)
        while self._lows and self._lows[-1].low >= minute.low:
            self._lows.pop()
        self._lows.append(minute)
        self._count(minute, 1)

    def slide(self, open_second: int) -> bool:
        """Drop minutes too old once the open minute is open_second's; whether any was dropped."""
        oldest, dropped = window_opens(open_second), False
        while self._minutes and self._minutes[0].open_second < oldest:
            minute = self._minutes.popleft()
            for extremes in (self._highs, self._lows):
                if extremes[0] is minute:
                    extremes.popleft()
            self._count(minute, -1)
            dropped = True
        return dropped

    def _count(self, minute: Candle, sign: int) -> None:
        self._volume += sign * minute.volume
        self._quote_volume += sign * minute.quote_volume
        self._trades += sign * minute.trade_count
        self._burned += sign * minute.burned

    def view(
        self, market_id: str, opened: Candle, *, burned_total: int, last_trade_ns: int
    ) -> TickerView:
        """opened: the open minute. Without a trade in the window every price is the last one."""
        highs = [self._highs[0].high] if self._highs else []
        lows = [self._lows[0].low] if self._lows else []
        if opened.trade_count or not highs:
            highs.append(opened.high)
            lows.append(opened.low)
        return TickerView(
            market_id=market_id,
            last_price=opened.close,
            open_price=self._minutes[0].open if self._minutes else opened.open,
            high_price=max(highs),
            low_price=min(lows),
            volume=self._volume + opened.volume,
            quote_volume=self._quote_volume + opened.quote_volume,
            trade_count=self._trades + opened.trade_count,
            burned=self._burned + opened.burned,
            burned_total=burned_total,
            at_ns=last_trade_ns,
        )
