"""Which candles of a market exist and which of them a query asks for.

Candles are dense from the first trade's on, so a page is a range of open seconds. Its possible ends
are found by walking down from the few weekly candles: 1w, 1d, 1h, 1m, 60 fields a read at most.
Found once, they are known as long as the views keep their epoch: the first never changes, and the
newest is the last one that follows, without a gap, on the newest before.
"""

from typing import NamedTuple

from gateway.views import KnownSpan, Views
from schemas.views import INTERVAL_SECONDS

# Each divides the one before it; every other interval divides one of them.
_LADDER = ("1w", "1d", "1h", "1m")
# Candles that are looked for after the newest known; if there are more, the walk is shorter.
_AHEAD = 8


class Span(NamedTuple):
    """Open seconds of the first and the newest candle."""

    first: int
    newest: int


class Window(NamedTuple):
    """Open seconds to read, oldest first. next_ms: where the next page begins, None at the end."""

    open_seconds: range
    next_ms: int | None


async def candle_span(views: Views, market_id: str, interval: str) -> Span | None:
    """The ends of one interval's candles; None before the market's first trade."""
    known = views.known_spans.get((market_id, interval))
    if known is not None:
        span = await _moved_on(views, market_id, interval, known)
        if span is not None:
            return span
    return await _walk(views, market_id, interval)


async def _moved_on(views: Views, market_id: str, interval: str, known: KnownSpan) -> Span | None:
    # None: too much has happened since then, or the views are others now.
    width = INTERVAL_SECONDS[interval]
    ahead = range(known.newest, known.newest + _AHEAD * width, width)
    found, versioned = await views.candles(market_id, interval, ahead)
    if versioned.epoch != known.epoch or not 0 < len(found) < _AHEAD:
        return None
    newest = found[-1].open_second
    views.known_spans[market_id, interval] = KnownSpan(known.epoch, known.first, newest)
    return Span(known.first, newest)


async def _walk(views: Views, market_id: str, interval: str) -> Span | None:
    _, before = await views.ticker(market_id)
    weeks = await views.weeks(market_id)
    if not weeks:
        return None
    first = await _descend(views, market_id, interval, weeks[0], end=0)
    newest = await _descend(views, market_id, interval, weeks[-1], end=-1)
    _, after = await views.ticker(market_id)
    if before.epoch == after.epoch:
        views.known_spans[market_id, interval] = KnownSpan(after.epoch, first, newest)
    return Span(first, newest)


async def _descend(views: Views, market_id: str, interval: str, week: int, *, end: int) -> int:
    # end: 0 takes the oldest child at each step, -1 the newest.
    opened, width = week, INTERVAL_SECONDS["1w"]
    target = INTERVAL_SECONDS[interval]
    steps = [step for step in _LADDER[1:] if INTERVAL_SECONDS[step] > target]
    for step in (*steps, interval) if target < width else ():
        narrower = INTERVAL_SECONDS[step]
        found, _ = await views.candles(market_id, step, range(opened, opened + width, narrower))
        if not found:  # the views were emptied between two reads
            break
        opened, width = found[end].open_second, narrower
    return opened


def window(span: Span, width: int, *, from_ms: int | None, to_ms: int | None, limit: int) -> Window:
    """The page of a query, to_ms exclusive; without from_ms the newest `limit`."""
    end = span.newest + width
    if to_ms is not None:
        end = min(end, _open_at_or_after(span, width, to_ms))
    if from_ms is None:
        start = max(span.first, end - limit * width)
        return Window(range(start, end, width), None)
    start = max(span.first, _open_at_or_after(span, width, from_ms))
    stop = min(end, start + limit * width)
    return Window(range(start, stop, width), stop * 1_000 if stop < end else None)


def _open_at_or_after(span: Span, width: int, at_ms: int) -> int:
    # Counted from a known candle: weeks do not open at multiples of 7 days.
    steps = -((span.first * 1_000 - at_ms) // (width * 1_000))
    return span.first + steps * width
