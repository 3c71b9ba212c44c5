"""ops.live: what the picture makes of messages, and that a screen is drawn as large as it is."""

import io
from pathlib import Path

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from ops.commands.view import pointed_at
from ops.config import Config
from ops.live import chart
from ops.live.picture import Picture, channels_of, plain_line, pulse_values
from ops.live.screen import draw
from ops.processes import ProcessId
from ops.status import PartStatus, StackStatus
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

SECOND = 1_795_345_200
INDEX_UNIT = 1 << 64


def _market(name: str = "DUR-CNY") -> Market:
    return Market(
        market=name,
        base_asset="DUR",
        quote_asset="CNY",
        base_scale=8,
        quote_scale=8,
        tick_size="0.00010000",
        lot_size="0.00010000",
        burn_bps=10,
    )


def _pulse(second: int = SECOND, *, index: int = 0, price: str = "10.01230000") -> Pulse:
    return Pulse(
        second=second,
        index=str(index),
        reward="1.00000000",
        weight_total="400",
        prices={"DUR-CNY": price} if price else {},
    )


def _pool(second: int = SECOND) -> MiningPool:
    return MiningPool(
        asset="DUR",
        scale=8,
        pool="1000.00000000",
        allocated="100.00000000",
        remaining="900.00000000",
        reward_per_second="1.00000000",
        weight_total="400",
        index="0",
        carry="0",
        second=second,
        genesis_second=SECOND - 100,
        position=1,
    )


def _kline(minute: int, close: str = "10.01230000", *, position: int = 1) -> Kline:
    opened = (SECOND // 60 + minute) * 60_000
    return Kline(
        open_time=opened,
        close_time=opened + 59_999,
        open="10.00000000",
        high="10.50000000",
        low="9.50000000",
        close=close,
        volume="12.00000000",
        quote_volume="120.00000000",
        trade_count=3,
        taker_buy_volume="4.00000000",
        taker_buy_quote_volume="40.00000000",
        burned="0.01200000",
        first_position=position,
        last_position=position,
        closed=False,
    )


def _trade(number: int) -> Trade:
    return Trade(
        trade_id=number,
        time=SECOND * 1_000 + number,
        price="10.01230000",
        quantity="1.50000000",
        quote_quantity="15.01845000",
        taker_side="buy" if number % 2 else "sell",
        burned="0.00150000",
        position=number,
    )


def _burn(number: int) -> BurnPublication:
    burn = Burn(
        trade_id=number,
        time=SECOND * 1_000,
        burned="0.00150000",
        burned_total=f"{number}.00000000",
        position=number,
    )
    return BurnPublication(trade=burn)


def _ticker() -> Ticker:
    return Ticker(
        market="DUR-CNY",
        last="10.01230000",
        open="10.00000000",
        high="10.50000000",
        low="9.50000000",
        change="0.01230000",
        volume="123456.00000000",
        quote_volume="1234560.00000000",
        trade_count=3,
        burned="0.01200000",
        burned_total="0.01200000",
        time=SECOND * 1_000,
    )


def _publish(picture: Picture, channel: str, content: object, offset: int = 1) -> None:
    raw = msgspec.Raw(msgspec.json.encode(content))
    picture.apply_publication(Pub(ch=channel, offset=offset, data=raw))


def _snapshot(picture: Picture, channel: str, content: object, offset: int = 1) -> None:
    raw = msgspec.Raw(msgspec.json.encode(content))
    picture.apply_snapshot(Snapshot(ch=channel, epoch="a", offset=offset, data=raw))


def _share(user: str) -> MiningShare:
    return MiningShare(
        user_id=user,
        asset="DUR",
        scale=8,
        weight="100",
        weight_total="400",
        entry_index=str(5 * INDEX_UNIT),
        entry_fraction="0",
        index=str(6 * INDEX_UNIT),
        second=SECOND,
        accrued="0.00000100",
        settled="2.00000000",
        position=1,
    )


def _full() -> Picture:
    """A picture with something in every panel."""
    picture = Picture()
    picture.link = "live"
    picture.set_markets((_market(),))
    _snapshot(picture, "mining", _pool())
    _snapshot(picture, "pulse", _pulse(index=9 * INDEX_UNIT))
    _snapshot(picture, "ticker.DUR-CNY", _ticker())
    _snapshot(picture, "trades.DUR-CNY", Page(items=tuple(_trade(number) for number in range(50))))
    _snapshot(picture, "burns.DUR-CNY", BurnPage(items=(), cumulative="7.50000000"))
    for number in range(8, 20):
        _publish(picture, "burns.DUR-CNY", _burn(number))
    picture.markets["DUR-CNY"].add_candles(tuple(_kline(minute) for minute in range(60)))
    top = tuple(Miner(user_id=f"miner-{number:02}", weight="100") for number in range(12))
    picture.set_summary(ContributionSummary(weight_total="400", miners=12, top=top))
    picture.shares = {miner.user_id: _share(miner.user_id) for miner in top}
    return picture


def _drawn(picture: Picture, width: int, height: int) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, legacy_windows=False
    )
    with console.capture() as capture:
        screen = draw(picture, width, height, picture.pulse_at_s)
        lines = console.render_lines(screen, console.options.update(height=height), pad=False)
        for line in lines:
            console.print("".join(segment.text for segment in line), markup=False, highlight=False)
    return capture.get().splitlines()


def test_each_new_second_is_told_once() -> None:
    heard: list[int] = []
    picture = Picture(on_pulse=lambda beaten: heard.append(beaten.pulse.second))  # type: ignore[union-attr]
    _snapshot(picture, "pulse", None)
    _snapshot(picture, "pulse", _pulse(SECOND))
    _publish(picture, "pulse", _pulse(SECOND + 1))
    _snapshot(picture, "pulse", _pulse(SECOND + 1))
    assert heard == [SECOND, SECOND + 1]


def test_what_the_pool_paid_follows_the_pulse_between_its_own_news() -> None:
    picture = Picture()
    _snapshot(picture, "mining", _pool(SECOND))
    _publish(picture, "pulse", _pulse(SECOND + 5))
    assert picture.allocated() == 105
    _publish(picture, "mining", msgspec.structs.replace(_pool(SECOND + 9), allocated="109"))
    assert picture.allocated() == 109
    _publish(picture, "pulse", _pulse(SECOND + 10_000))
    assert picture.allocated() == 1_000


def test_mined_amounts_grow_with_the_index() -> None:
    picture = _full()
    # 100 of weight x (9 - 5) units of index, beside the settled 2 DUR.
    assert picture.mined("miner-01") == "2.00000400"
    assert picture.mined("nobody") is None


def test_an_older_answer_does_not_undo_a_candle() -> None:
    market = _full().markets["DUR-CNY"]
    market.add_candles((_kline(59, "10.20000000", position=9),))
    market.add_candles((_kline(59, "10.10000000", position=8),))
    assert market.candles[-1].close == "10.20000000"
    market.add_candles(tuple(_kline(minute) for minute in range(1_000)))
    assert len(market.candles) == 160


def test_a_new_snapshot_asks_for_the_candles_again() -> None:
    picture = _full()
    market = picture.markets["DUR-CNY"]
    market.misses_candles = False
    _snapshot(picture, "kline.DUR-CNY.1m", _kline(0))
    assert market.misses_candles


def test_messages_of_unknown_channels_are_ignored() -> None:
    picture = _full()
    _publish(picture, "depth.DUR-CNY", {"bids": []})
    _publish(picture, "trades.XRP-ETH", _trade(1))
    assert list(picture.markets) == ["DUR-CNY"]


def test_a_plain_line_names_the_second_and_its_figures() -> None:
    expected = "price=10.01230000 burned=19.00000000 weight=400 reward=1.00000000"
    assert plain_line(_full()) == f"second={SECOND} {expected}"


def test_a_plain_line_before_any_trade() -> None:
    picture = Picture()
    picture.set_markets((_market(),))
    _snapshot(picture, "pulse", _pulse(price=""))
    assert "price=- burned=- weight=400" in plain_line(picture)


def test_values_for_programs() -> None:
    values = pulse_values(_full())
    assert values["second"] == SECOND and values["burned"] == {"DUR-CNY": "19.00000000"}
    assert (values["allocated"], values["remaining"]) == ("100.00000000", "900.00000000")


@pytest.mark.parametrize(
    ("width", "height"), [(80, 24), (140, 40), (200, 60), (100, 30), (60, 16), (40, 12)]
)
@pytest.mark.parametrize("is_full", [True, False])
def test_a_screen_fills_its_size_exactly(width: int, height: int, *, is_full: bool) -> None:
    lines = _drawn(_full() if is_full else Picture(), width, height)
    assert len(lines) == height
    assert {cell_len(line) for line in lines} == {width}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 40)])
def test_a_screen_shows_all_that_was_asked_for(width: int, height: int) -> None:
    text = "\n".join(_drawn(_full(), width, height))
    for wanted in ("live", "11:00:00 UTC", "miners 12", "+0.12 % 24h", "miner-00", "2.00000400"):
        assert wanted in text
    for wanted in ("◂10.0123", "19.00000000 DUR", "left 900", "mined 100.00"):
        assert wanted in text


def test_a_lost_connection_and_a_silent_ledger_are_said() -> None:
    picture = _full()
    picture.pulse_at_s -= 30.0
    console = Console(file=io.StringIO(), width=80, height=24)
    console.print(draw(picture, 80, 24, picture.pulse_at_s + 30.0), height=24)
    picture.link, picture.trouble = "reconnecting", "no connection"
    console.print(draw(picture, 80, 24, picture.pulse_at_s), height=24)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "no second for 30 s" in shown and "reconnecting: no connection" in shown


def _bar(opened: float, high: float, low: float, close: float) -> chart.Bar:
    return chart.Bar(open=opened, high=high, low=low, close=close, volume=1.0)


def test_a_candle_has_wicks_and_a_body() -> None:
    bar = _bar(2.0, 8.0, 0.0, 4.9)
    rows = chart.candle_rows([bar], chart.Scale(low=0.0, high=8.0, rows=4), step=1)
    assert [row.plain for row in rows] == ["│", "╽", "┃", "│"]


def test_half_cells_show_where_a_body_ends() -> None:
    bar = _bar(3.0, 4.9, 3.0, 4.9)
    rows = chart.candle_rows([bar], chart.Scale(low=0.0, high=8.0, rows=4), step=2)
    assert [row.plain for row in rows] == ["  ", "╻ ", "╹ ", "  "]


def test_a_market_that_stands_still_has_a_scale() -> None:
    scale = chart.scale_of([_bar(5.0, 5.0, 5.0, 5.0)], 4)
    assert scale.low < 5.0 < scale.high


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.001, 0.37, 0.99, 1.0, 7.0])
def test_bars_keep_their_width(share: float) -> None:
    assert chart.share_bar(share, 9, "cyan").cell_len == 9
    assert chart.thin_bar(share, 9, "cyan").cell_len == 9


def test_big_digits_are_as_wide_as_they_say() -> None:
    rows = chart.big("1,234.5678", "bold")
    assert len(rows) == chart.BIG_ROWS
    assert {row.cell_len for row in rows} == {chart.big_width("1,234.5678")}


def test_a_view_uses_the_ports_a_stack_really_has() -> None:
    addresses = {
        "trading": {"url": "http://127.0.0.9:31022"},
        "stream": {"url": "ws://127.0.0.9:31025/v1/stream"},
    }
    part = PartStatus(name="api", state="ready", addresses=addresses)
    status = StackStatus(
        data="/somewhere",
        supervisor=ProcessId(pid=1, start="1"),
        ready=True,
        parts=(part,),
    )
    config = pointed_at(Config(), status)
    assert (config.host, config.ports.trading, config.ports.stream) == ("127.0.0.9", 31022, 31025)
    assert (config.ports.mining, config.data_dir) == (3021, Path("/somewhere"))


def test_a_view_subscribes_to_every_market() -> None:
    assert channels_of(("A-B", "C-D")) == [
        "pulse",
        "mining",
        "ticker.A-B",
        "kline.A-B.1m",
        "burns.A-B",
        "trades.A-B",
        "ticker.C-D",
        "kline.C-D.1m",
        "burns.C-D",
        "trades.C-D",
    ]
