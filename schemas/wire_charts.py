"""Wire shapes of the chart feed, as TradingView's UDF asks for them: names and numbers are its own.

Source: https://www.tradingview.com/charting-library-docs/latest/connecting_data/UDF
"""

from typing import Annotated, Final, Literal

import msgspec

# Written from decimals, digit by digit: a number of JSON need not be anybody's float.
Number = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "number"})]
Resolution = Literal["1", "5", "15", "30", "60", "240", "1D", "D", "1W", "W"]
RESOLUTIONS: Final = ("1", "5", "15", "30", "60", "240", "1D", "1W")


class ChartConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """What the feed can do."""

    supported_resolutions: tuple[str, ...] = RESOLUTIONS
    supports_search: bool = True
    supports_group_request: bool = False
    supports_marks: bool = False
    supports_timescale_marks: bool = False
    supports_time: bool = True


class ChartSymbol(msgspec.Struct, frozen=True, kw_only=True):
    """A market: prices move by minmov / pricescale."""

    name: str
    ticker: str
    description: str
    type: str = "crypto"
    session: str = "24x7"
    timezone: str = "Etc/UTC"
    exchange: str = "Durian"
    listed_exchange: str = "Durian"
    format: str = "price"
    minmov: int
    pricescale: int
    has_intraday: bool = True
    has_daily: bool = True
    has_weekly_and_monthly: bool = True
    supported_resolutions: tuple[str, ...] = RESOLUTIONS
    volume_precision: int
    data_status: str = "streaming"


class ChartMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A market that a search found."""

    symbol: str
    full_name: str
    description: str
    exchange: str = "Durian"
    ticker: str
    type: str = "crypto"


class ChartBars(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """s: ok or no_data. t: Unix seconds at which the bars open, ascending; o, h, l, c, v: their
    open, high, low, close and volume. next_time: of no_data, where the newest bar before the period
    opens, absent if there is none.
    """

    s: Literal["ok", "no_data"]
    t: tuple[int, ...] = ()
    o: tuple[Number, ...] = ()
    h: tuple[Number, ...] = ()
    l: tuple[Number, ...] = ()  # noqa: E741
    c: tuple[Number, ...] = ()
    v: tuple[Number, ...] = ()
    next_time: int | None = msgspec.field(default=None, name="nextTime")
