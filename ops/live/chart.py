"""Candlesticks, bars and big digits from Unicode's box and block characters.

Pure text: numbers in, rich Text out, exactly as wide and as high as asked for. The numbers are
floats, for a screen cannot show more.
"""

from collections.abc import Sequence

import msgspec
from rich.text import Text

UP, DOWN, FLAT = "green", "red", "bright_black"
AXIS = "bright_black"
# (upper half, lower half) of a cell: nothing, wick or body.
_GLYPHS = {
    ("", ""): " ",
    ("", "wick"): "╷",
    ("wick", ""): "╵",
    ("wick", "wick"): "│",
    ("", "body"): "╻",
    ("body", ""): "╹",
    ("body", "body"): "┃",
    ("wick", "body"): "╽",
    ("body", "wick"): "╿",
}
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_PARTS = " ▏▎▍▌▋▊▉█"
_DIGITS = {
    "0": ("█▀█", "█ █", "▀▀▀"),
    "1": ("▀█ ", " █ ", "▀▀▀"),
    "2": ("▀▀█", "█▀▀", "▀▀▀"),
    "3": ("▀▀█", " ▀█", "▀▀▀"),
    "4": ("█ █", "▀▀█", "  ▀"),
    "5": ("█▀▀", "▀▀█", "▀▀▀"),
    "6": ("█▀▀", "█▀█", "▀▀▀"),
    "7": ("▀▀█", "  █", "  ▀"),
    "8": ("█▀█", "█▀█", "▀▀▀"),
    "9": ("█▀█", "▀▀█", "▀▀▀"),
    ".": (" ", " ", "▀"),
}
BIG_ROWS = 3


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One candle as it is drawn."""

    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def style(self) -> str:
        if self.volume == 0:
            return FLAT
        return UP if self.close >= self.open else DOWN


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """Which prices the rows of a chart stand for. halves: two to a row, counted from below."""

    low: float
    high: float
    rows: int

    def half(self, price: float) -> int:
        halves = self.rows * 2
        share = (price - self.low) / (self.high - self.low)
        return min(max(int(share * halves), 0), halves - 1)

    def price(self, row: int) -> float:
        """In the middle of a row; row 0 is the topmost."""
        return self.high - (row + 0.5) * (self.high - self.low) / self.rows


def scale_of(bars: Sequence[Bar], rows: int) -> Scale:
    """A scale that holds all bars, also when they all are one price."""
    low, high = min(bar.low for bar in bars), max(bar.high for bar in bars)
    if high <= low:
        margin = abs(high) * 0.001 or 1.0
        low, high = low - margin, high + margin
    return Scale(low=low, high=high, rows=rows)


def candle_rows(bars: Sequence[Bar], scale: Scale, *, step: int) -> list[Text]:
    """scale.rows lines, a candle every `step` columns, oldest at the left."""
    columns = [(_column(bar, scale), bar.style) for bar in bars]
    rows = []
    for row in range(scale.rows):
        text = Text(no_wrap=True)
        for cells, style in columns:
            text.append(cells[row] + " " * (step - 1), style)
        rows.append(text)
    return rows


def _column(bar: Bar, scale: Scale) -> list[str]:
    wick = range(scale.half(bar.low), scale.half(bar.high) + 1)
    body = range(scale.half(min(bar.open, bar.close)), scale.half(max(bar.open, bar.close)) + 1)
    halves = [
        "body" if half in body else "wick" if half in wick else ""
        for half in reversed(range(scale.rows * 2))
    ]
    return [_GLYPHS[upper, lower] for upper, lower in zip(halves[::2], halves[1::2], strict=True)]


def volume_row(bars: Sequence[Bar], *, step: int) -> Text:
    """One line of small columns, the highest volume filling it."""
    highest = max((bar.volume for bar in bars), default=0.0)
    text = Text(no_wrap=True)
    for bar in bars:
        eighths = round(bar.volume / highest * 8) if highest else 0
        shown = max(eighths, 1) if bar.volume else 0
        text.append(_EIGHTHS[shown] + " " * (step - 1), bar.style)
    return text


def share_bar(share: float, width: int, style: str) -> Text:
    """A bar whose filled part is `share` (0 to 1) of width, to an eighth of a column."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, part = divmod(eighths, 8)
    filled = "█" * whole + (_PARTS[part] if part else "")
    return Text.assemble((filled, style), ("·" * (width - len(filled)), AXIS), no_wrap=True)


def thin_bar(share: float, width: int, style: str) -> Text:
    """A line whose part `share` is heavy and coloured; anything above nothing shows."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    if share > 0:
        filled = max(filled, 1)
    return Text.assemble(("━" * filled, style), ("─" * (width - filled), AXIS), no_wrap=True)


def big_width(text: str) -> int:
    """Columns that big() needs for a number."""
    return sum(len(_DIGITS[sign][0]) + 1 for sign in text if sign in _DIGITS)


def big(text: str, style: str) -> list[Text]:
    """A decimal number, BIG_ROWS lines high."""
    signs = [_DIGITS[sign] for sign in text if sign in _DIGITS]
    return [
        Text("".join(f"{sign[row]} " for sign in signs), style, no_wrap=True)
        for row in range(BIG_ROWS)
    ]
