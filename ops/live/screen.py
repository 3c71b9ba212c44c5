"""Drawing the live view's picture as one screen of a given size; the caller owns the terminal.

Panels have fixed sizes computed from the screen's, so that nothing moves while numbers change. A
small screen loses panels from the bottom, a narrow one those at the right.
"""

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.text import Text

from ops.live import chart
from ops.live.picture import MarketPicture, Picture
from schemas.publications import Kline

WIDTH_BOTH_COLUMNS = 70
WIDTH_TRADE_BURNS = 42
HEIGHT_BOTTOM = 18
FRAME = 2
HEADER_ROWS = 2
LABEL_WIDTH = 10
CLOCK_WIDTH = 5
BURN_WIDTH = 13
CANDLES_SHOWN = 40
STALLED_S = 3.0
TURN_S = 10
PERCENT = Decimal(100)
BORDER = "bright_black"
BURN_STYLE = "dark_orange"
MINED_STYLE = "cyan"

T = TypeVar("T")


def draw(picture: Picture, width: int, height: int, now_s: float) -> RenderableType:
    """now_s: monotonic, the clock of picture.pulse_at_s."""
    header_height = HEADER_ROWS + FRAME
    bottom_height = 0
    if height >= HEIGHT_BOTTOM:
        bottom_height = min(max((height - header_height) * 2 // 5, 6), 14)
    middle_height = height - header_height - bottom_height
    both = width >= WIDTH_BOTH_COLUMNS
    left = width * 3 // 5 if both else width
    market = _shown(picture, now_s)
    screen = Layout()
    middle = Layout(size=middle_height)
    middle.split_row(
        Layout(_market_panel(market, left - FRAME - 2, middle_height - FRAME), size=left),
        Layout(
            _trades_panel(market, width - left - FRAME - 2, middle_height - FRAME),
            size=width - left,
            visible=both,
        ),
    )
    bottom = Layout(size=max(bottom_height, 1), visible=bottom_height > 0)
    bottom.split_row(
        Layout(_miners_panel(picture, left - FRAME - 2, bottom_height - FRAME), size=left),
        Layout(
            _burns_panel(market, width - left - FRAME - 2, bottom_height - FRAME),
            size=width - left,
            visible=both,
        ),
    )
    header = Layout(_header(picture, width - FRAME - 2, now_s), size=header_height)
    screen.split_column(header, middle, bottom)
    return screen


def _shown(picture: Picture, now_s: float) -> MarketPicture | None:
    # Several markets take turns.
    markets = list(picture.markets.values())
    return markets[int(now_s) // TURN_S % len(markets)] if markets else None


def _panel(rows: Sequence[RenderableType], title: Text) -> Panel:
    return Panel(Group(*rows), title=title, title_align="left", border_style=BORDER)


def _header(picture: Picture, width: int, now_s: float) -> Panel:
    pulse, pool = picture.pulse, picture.pool
    title = Text.assemble(("durian ", "bold"), _health(picture, now_s))
    if pulse is None or pool is None:
        return _panel([Text("waiting for the first second", "dim"), Text("")], title)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(pulse.second))
    allocated, total = picture.allocated(), Decimal(pool.pool)
    share = float(allocated / total) if total else 0.0
    first = Text.assemble(
        (f"{at} UTC", "bold"),
        ("  reward ", "dim"),
        (f"{_short(pulse.reward)} {pool.asset}/s", MINED_STYLE),
        ("  weight ", "dim"),
        f"{int(pulse.weight_total):,}",
        ("  miners ", "dim"),
        f"{picture.miners:,}",
        no_wrap=True,
        overflow="ellipsis",
    )
    words = Text.assemble(
        (" mined ", "dim"),
        (f"{allocated:,.2f}", MINED_STYLE),
        f" {share:.5%}",
        (" left ", "dim"),
        f"{total - allocated:,.0f}",
        no_wrap=True,
        overflow="ellipsis",
    )
    bar_width = max(width - len(words) - len("pool "), 5)
    second = Text.assemble(("pool ", "dim"), chart.thin_bar(share, bar_width, MINED_STYLE), words)
    return _panel([first, second], title)


def _health(picture: Picture, now_s: float) -> Text:
    silent_s = now_s - picture.pulse_at_s
    if picture.link != "live":
        trouble = f": {picture.trouble}" if picture.trouble else ""
        return Text(f"◌ {picture.link}{trouble}", "bold yellow")
    if picture.pulse is not None and silent_s > STALLED_S:
        return Text(f"● no second for {silent_s:.0f} s", "bold yellow")
    # Beats with the ledger's seconds.
    beat = picture.pulse is not None and picture.pulse.second % 2 == 0
    return Text.assemble(("●" if beat else "○", "green"), (" live", "green"))


def _market_panel(market: MarketPicture | None, width: int, height: int) -> Panel:
    if market is None:
        return _panel([Text("no market yet", "dim")], Text("market"))
    spec = market.market
    title = Text.assemble((spec.market, "bold"), (f"  burn {spec.burn_bps / 100:g} %", "dim"))
    price = market.last_price()
    if not price:
        return _panel([Text("waiting for the first trade", "dim")], title)
    rows = _price_rows(market, width, height)
    candles = market.candles[-CANDLES_SHOWN:]
    chart_rows = height - len(rows) - 2
    if candles and chart_rows >= 2:
        rows += _chart_rows(candles, market, width, chart_rows)
    return _panel(rows, title)


def _price_rows(market: MarketPicture, width: int, height: int) -> list[Text]:
    price = _at_step(market.last_price(), market.market.tick_size)
    ticker = market.ticker
    change = Decimal(ticker.change) if ticker else Decimal(0)
    style = f"bold {chart.UP if change >= 0 else chart.DOWN}"
    facts = [Text(), Text(), Text()]
    if ticker is not None:
        opened = Decimal(ticker.open)
        percent = change / opened * PERCENT if opened else Decimal(0)
        arrow = "▲" if change >= 0 else "▼"
        step = market.market.tick_size
        facts = [
            Text(f"{arrow} {percent:+.2f} % 24h", style),
            Text(f"{_at_step(ticker.low, step)} to {_at_step(ticker.high, step)}"),
            Text(f"vol {_compact(ticker.volume)} {market.market.base_asset}", "dim"),
        ]
    room = width - chart.big_width(price) - 1
    if height < 8 or room < 10:
        line = Text.assemble((price, style), "  ", facts[0], no_wrap=True, overflow="ellipsis")
        return [line]
    rows = []
    for digits, fact in zip(chart.big(price, style), facts, strict=True):
        row = Text.assemble(digits, " ", fact, no_wrap=True)
        row.truncate(width, overflow="ellipsis")
        rows.append(row)
    return rows


def _chart_rows(
    candles: Sequence[Kline], market: MarketPicture, width: int, rows: int
) -> list[Text]:
    room = width - LABEL_WIDTH
    step = 2 if len(candles) * 2 <= room and room >= CANDLES_SHOWN * 2 else 1
    bars = [_bar(candle) for candle in candles[-(room // step) :]]
    scale = chart.scale_of(bars, rows)
    lines = chart.candle_rows(bars, scale, step=step)
    labelled = {0, rows - 1} | ({rows // 2} if rows >= 5 else set())
    last_row = rows - 1 - scale.half(bars[-1].close) // 2
    padding = " " * (room - len(bars) * step)
    drawn = []
    for row, line in enumerate(lines):
        label = Text()
        if row == last_row:
            text = _at_step(str(candles[-1].close), market.market.tick_size)
            label = Text(f"◂{text}", f"bold {bars[-1].style}")
        elif row in labelled and abs(row - last_row) > 0:
            text = _at_step(repr(scale.price(row)), market.market.tick_size)
            label = Text(f" {text}", chart.AXIS)
        drawn.append(Text.assemble(padding, line, label, no_wrap=True, overflow="crop"))
    volume = Text.assemble(padding, chart.volume_row(bars, step=step), (" volume", chart.AXIS))
    return [*drawn, volume, _time_row(candles[-len(bars) :], step, padding)]


def _bar(candle: Kline) -> chart.Bar:
    return chart.Bar(
        open=float(candle.open),
        high=float(candle.high),
        low=float(candle.low),
        close=float(candle.close),
        volume=float(candle.volume),
    )


def _time_row(candles: Sequence[Kline], step: int, padding: str) -> Text:
    row = [" "] * (len(padding) + len(candles) * step + 1)
    every = 5 if step == 2 else 10
    for number, candle in enumerate(candles):
        minute = candle.open_time // 60_000
        at = len(padding) + number * step
        if minute % every == 0 and at + CLOCK_WIDTH <= len(row):
            row[at : at + CLOCK_WIDTH] = time.strftime("%H:%M", time.gmtime(minute * 60))
    return Text.assemble(("".join(row), chart.AXIS), (" UTC, 1m", chart.AXIS), no_wrap=True)


def _trades_panel(market: MarketPicture | None, width: int, height: int) -> Panel:
    rows = []
    for trade in _newest(market.trades if market else (), height):
        assert market is not None
        style = chart.UP if trade.taker_side == "buy" else chart.DOWN
        price = _at_step(trade.price, market.market.tick_size)
        quantity = _at_step(trade.quantity, market.market.lot_size)
        row = Text.assemble((_clock(trade.time), "dim"), (f" {price:>9}", style), no_wrap=True)
        burned_width = 14 if width >= WIDTH_TRADE_BURNS else 0
        row.append(f" {quantity:>{max(width - len(row) - burned_width - 1, 1)}}")
        if burned_width:
            row.append(f"{_short(trade.burned):>{burned_width}}", BURN_STYLE)
        row.truncate(width)
        rows.append(row)
    words = "  price, quantity, burned" if width >= WIDTH_TRADE_BURNS else "  price, quantity"
    return _panel(rows, Text.assemble(("trades", "bold"), (words, "dim")))


def _miners_panel(picture: Picture, width: int, height: int) -> Panel:
    rows: list[RenderableType] = []
    total = int(picture.pulse.weight_total) if picture.pulse else 0
    heaviest = max((int(miner.weight) for miner in picture.top), default=0)
    name_width = min(max((len(m.user_id) for m in picture.top), default=0), 20)
    for miner in picture.top[: max(height, 0)]:
        weight = int(miner.weight)
        share = weight / total if total else 0.0
        mined = picture.mined(miner.user_id) or ""
        amount_width = 18 if width >= 54 else 14
        bar_width = width - name_width - amount_width - 9
        row = Text(f"{miner.user_id[:name_width]:<{name_width}} ", no_wrap=True)
        row.append_text(chart.share_bar(weight / heaviest, max(bar_width, 1), MINED_STYLE))
        row.append(f" {share:6.2%}")
        row.append(f"{mined:>{amount_width}}", f"bold {MINED_STYLE}")
        row.truncate(width)
        rows.append(row)
    asset = f" {picture.pool.asset}" if picture.pool else ""
    title = Text.assemble(("top miners", "bold"), (f"  share, mined{asset}", "dim"))
    return _panel(rows or [Text("nobody mines yet", "dim")], title)


def _burns_panel(market: MarketPicture | None, width: int, height: int) -> Panel:
    rows = []
    burns = _newest(market.burns if market else (), height)
    highest = max((float(burn.burned) for burn in burns), default=0.0) or 1.0
    for burn in burns:
        row = Text.assemble((_clock(burn.time), "dim"), " ", no_wrap=True)
        bar_width = max(width - len(row) - BURN_WIDTH, 1)
        row.append_text(chart.share_bar(float(burn.burned) / highest, bar_width, BURN_STYLE))
        row.append(f"{burn.burned:>{BURN_WIDTH}}")
        row.truncate(width)
        rows.append(row)
    title = Text.assemble(("burns", "bold"))
    if market is not None and market.burned_total:
        total = f"{market.burned_total} {market.market.base_asset}"
        title.append(f"  {total}", f"bold {BURN_STYLE}")
    return _panel(rows, title)


def _newest(rows: Sequence[T], count: int) -> list[T]:
    return list(rows)[::-1][: max(count, 0)]


def _clock(at_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(at_ms / 1_000))


def _at_step(amount: str, step: str) -> str:
    """An amount with as many decimals as its market's step has significant ones."""
    exponent = Decimal(step).normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return f"{Decimal(amount):.{max(-exponent, 0)}f}"


def _short(amount: str) -> str:
    return amount.rstrip("0").rstrip(".") if "." in amount else amount


def _compact(amount: str) -> str:
    value = float(amount)
    for bound, unit, suffix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= bound:
            return f"{value / unit:,.1f}{suffix}"
    return f"{value:,.1f}"
