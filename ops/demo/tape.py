"""Trade tapes: CSV or CSV.gz of `time_ms,trade_id,price,quantity,taker_side`, file order is trade
order.

Exact: prices and quantities become integer minor units; nothing is rounded. A line that does not
parse is refused with its number before anything starts.
"""

import csv
import gzip
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from ops.errors import UsageError
from schemas.amounts import AmountError, format_amount, parse_amount
from schemas.commands import OpenMarket
from schemas.events import AssetSpec, MarketRules, Side
from schemas.genesis import Genesis

HEADER = ["time_ms", "trade_id", "price", "quantity", "taker_side"]
SCALE_MAX = 18
# Amounts of the demo show at least as many decimals as the default ledger's.
SCALE_MIN = 8
TIME_MS_MAX = 1 << 43
_WHOLE = re.compile(r"\d{1,15}")


class TapeTrade(msgspec.Struct, frozen=True, gc=False):
    """price_minor: quote minor units per whole base unit. quantity_minor: base minor units."""

    time_ms: int
    price_minor: int
    quantity_minor: int
    taker_side: Side


class Tape(NamedTuple):
    """All trades, and the market that fits them exactly."""

    trades: Sequence[TapeTrade]
    market: OpenMarket
    assets: tuple[AssetSpec, ...]

    @property
    def first_second(self) -> int:
        return self.trades[0].time_ms // 1_000

    @property
    def last_second(self) -> int:
        return self.trades[-1].time_ms // 1_000

    def quote_minor(self, trade: TapeTrade) -> int:
        """What a trade pays; exact because tick x lot is a whole number of quote minor units."""
        return trade.price_minor * trade.quantity_minor // int(10 ** self.assets[0].scale)

    def genesis(self) -> Genesis:
        """A ledger that begins in the first second of the tape; its base asset is the mined one."""
        unit = 10 ** self.assets[0].scale
        default = Genesis()
        shift = unit // 10 ** default.assets[0].scale
        return Genesis(
            genesis_second=self.first_second,
            mined_asset=self.market.base_asset,
            pool_minor=default.pool_minor * shift,
            assets=self.assets,
            emission=tuple(
                msgspec.structs.replace(entry, reward_minor=entry.reward_minor * shift)
                for entry in default.emission
            ),
            markets=(self.market,),
        )


class _Row(NamedTuple):
    line: int
    time_ms: int
    price: str
    quantity: str
    taker_side: Side


def read_tape(
    path: Path, *, market_id: str, burn_bps: int, tick: str | None = None, lot: str | None = None
) -> Tape:
    """The tape and its market. tick, lot: decimal strings; None derives the coarsest power of ten.

    Raises UsageError naming the line of the first row that cannot be used.
    """
    rows = list(_rows(path))
    if not rows:
        raise UsageError(f"{path}: no trades")
    base, _, quote = market_id.partition("-")
    if not base or not quote or base == quote:
        raise UsageError(f"--market {market_id!r}: expected BASE-QUOTE, such as DUR-CNY")
    tick_decimals = _decimals(tick) if tick else max(_decimals(row.price) for row in rows)
    lot_decimals = _decimals(lot) if lot else max(_decimals(row.quantity) for row in rows)
    base_scale = max(SCALE_MIN, lot_decimals)
    # tick x lot must be a whole number of quote minor units.
    quote_scale = max(SCALE_MIN, tick_decimals + lot_decimals)
    if base_scale > SCALE_MAX or quote_scale > SCALE_MAX:
        raise UsageError(
            f"{path}: prices with {tick_decimals} and quantities with {lot_decimals} decimals need "
            f"a scale of {max(base_scale, quote_scale)}; at most {SCALE_MAX} is possible"
        )
    market = OpenMarket(
        market_id=market_id,
        base_asset=base,
        quote_asset=quote,
        tick_minor=_step("--tick", tick or _power(tick_decimals), quote_scale),
        lot_minor=_step("--lot", lot or _power(lot_decimals), base_scale),
        rules=MarketRules(burn_bps=burn_bps),
    )
    assets = (
        AssetSpec(asset_id=base, scale=base_scale),
        AssetSpec(asset_id=quote, scale=quote_scale),
    )
    return Tape([_trade(path, row, market, assets) for row in rows], market, assets)


def _rows(path: Path) -> Iterator[_Row]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path}: cannot be read: {exc}") from exc
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    last_ms = 0
    try:
        if next(reader, None) != HEADER:
            raise UsageError(f"{path}:1: the first line must be {','.join(HEADER)}")
        for fields in reader:
            row = _row(path, reader.line_num, fields)
            if row.time_ms < last_ms:
                raise UsageError(f"{path}:{row.line}: time_ms goes back from {last_ms}")
            last_ms = row.time_ms
            yield row
    except csv.Error as exc:
        raise UsageError(f"{path}:{reader.line_num}: {exc}") from exc


def _row(path: Path, line: int, fields: list[str]) -> _Row:
    where = f"{path}:{line}"
    if len(fields) != len(HEADER):
        raise UsageError(f"{where}: {len(fields)} fields instead of {len(HEADER)}")
    time_ms, _, price, quantity, taker_side = fields
    if not _WHOLE.fullmatch(time_ms) or int(time_ms) > TIME_MS_MAX:
        raise UsageError(f"{where}: time_ms {time_ms!r} is not a Unix time in milliseconds")
    for name, amount in (("price", price), ("quantity", quantity)):
        try:
            positive = parse_amount(amount, SCALE_MAX) > 0
        except AmountError as exc:
            raise UsageError(f"{where}: {name}: {exc}") from exc
        if not positive:
            raise UsageError(f"{where}: {name} must be more than 0")
    if taker_side not in ("buy", "sell"):
        raise UsageError(f"{where}: taker_side {taker_side!r}; allowed: buy, sell")
    return _Row(line, int(time_ms), price, quantity, "buy" if taker_side == "buy" else "sell")


def _trade(path: Path, row: _Row, market: OpenMarket, assets: tuple[AssetSpec, ...]) -> TapeTrade:
    amounts = []
    for name, text, scale, step in (
        ("price", row.price, assets[1].scale, market.tick_minor),
        ("quantity", row.quantity, assets[0].scale, market.lot_minor),
    ):
        try:
            amount = parse_amount(text, scale)
        except AmountError as exc:
            raise UsageError(f"{path}:{row.line}: {name}: {exc}") from exc
        if amount % step:
            raise UsageError(
                f"{path}:{row.line}: {name} {text} is no multiple of {format_amount(step, scale)}"
            )
        amounts.append(amount)
    return TapeTrade(row.time_ms, amounts[0], amounts[1], row.taker_side)


def _decimals(text: str) -> int:
    return len(text.partition(".")[2].rstrip("0"))


def _power(decimals: int) -> str:
    return format_amount(1, decimals)


def _step(option: str, text: str, scale: int) -> int:
    try:
        step = parse_amount(text, scale)
    except AmountError as exc:
        raise UsageError(f"{option}: {exc}") from exc
    if step <= 0:
        raise UsageError(f"{option} must be more than 0")
    return step
