"""Rows as the lines of PostgreSQL's COPY, text format: the quickest way in from Python.

One table's lines are built by one f-string each; what may be absent or holds a name goes through
two small functions. Source: PostgreSQL's documentation of COPY, "Text Format".
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from projections.history.fold import HistoryBatch
from schemas import deep_history
from schemas.deep_history import BurnRow, IndexMark, KlineRow, Transaction, WeightChange

NULL = "\\N"
_NAMES_REMEMBERED = 1 << 16


@lru_cache(_NAMES_REMEMBERED)
def name(text: str | None) -> str:
    """A text column. The ledger's ids are visible ASCII; whatever else came would survive too."""
    if text is None:
        return NULL
    escaped = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    return escaped.replace("\r", "\\r")


def number(value: int | None) -> str | int:
    """A column of a number that may be absent."""
    return NULL if value is None else value


class Table(NamedTuple):
    """columns: in the order of the lines. rows: a batch's. line: of one row, with its end.

    second: by which the table is cut into months.
    """

    columns: str
    rows: Callable[[HistoryBatch], list[Any]]
    line: Callable[[Any], str]
    second: Callable[[Any], int]


def lines(rows: Iterable[Any], line: Callable[[Any], str]) -> bytes:
    return "".join(map(line, rows)).encode()


def _transaction(row: Transaction) -> str:
    return (
        f"{row.position}\t{row.at_ns}\t{number(row.order_id)}\t{number(row.trade_id)}\t"
        f"{name(row.user_id)}\t{row.type}\t{name(row.asset_id)}\t{row.available_minor}\t"
        f"{row.held_minor}\t{name(row.market_id)}\t{name(row.reference)}\t"
        f"{number(row.price_minor)}\t{number(row.quantity_minor)}\t{number(row.burned_minor)}\n"
    )


def _burns(row: BurnRow) -> str:
    return (
        f"{row.position}\t{row.open_second}\t{row.source}\t{name(row.market_id)}\t"
        f"{name(row.asset_id)}\t{row.burned_minor}\t{row.trade_count}\t{row.cumulative_minor}\n"
    )


def _kline(row: KlineRow) -> str:
    return (
        f"{row.position}\t{row.open_second}\t{row.first_position}\t{row.last_position}\t"
        f"{row.trade_count}\t{name(row.market_id)}\t{row.open}\t{row.high}\t{row.low}\t"
        f"{row.close}\t{row.volume}\t{row.quote_volume}\t{row.taker_buy_volume}\t"
        f"{row.taker_buy_quote_volume}\t{row.burned}\n"
    )


def _weight(row: WeightChange) -> str:
    return (
        f"{row.position}\t{row.from_second}\t{name(row.user_id)}\t{row.weight}\t"
        f"{row.entry_index}\t{row.entry_fraction}\t{row.settled_minor}\n"
    )


def _mark(row: IndexMark) -> str:
    return f"{row.position}\t{row.open_second}\t{row.index}\t{row.allocated_minor}\n"


TABLES: dict[str, Table] = {
    deep_history.TRANSACTIONS: Table(
        "position, at_ns, order_id, trade_id, user_id, type, asset_id, available_minor, held_minor,"
        " market_id, reference, price_minor, quantity_minor, burned_minor",
        lambda batch: batch.transactions,
        _transaction,
        lambda row: row.at_ns // 1_000_000_000,
    ),
    deep_history.BURNS: Table(
        "position, open_second, source, market_id, asset_id, burned_minor, trade_count,"
        " cumulative_minor",
        lambda batch: batch.burns,
        _burns,
        lambda row: row.open_second,
    ),
    deep_history.KLINES: Table(
        "position, open_second, first_position, last_position, trade_count, market_id, open, high,"
        " low, close, volume, quote_volume, taker_buy_volume, taker_buy_quote_volume, burned",
        lambda batch: batch.klines,
        _kline,
        lambda row: row.open_second,
    ),
    deep_history.WEIGHTS: Table(
        "position, from_second, user_id, weight, entry_index, entry_fraction, settled_minor",
        lambda batch: batch.weights,
        _weight,
        lambda row: row.from_second,
    ),
    deep_history.MARKS: Table(
        "position, open_second, index, allocated_minor",
        lambda batch: batch.marks,
        _mark,
        lambda row: row.open_second,
    ),
}
