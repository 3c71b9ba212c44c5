"""Views of the markets a second time: straight from the list of trades, by full rescans.

Candles of every interval are grouped from trades, never merged from smaller ones; the calendar is
Python's. Nothing here may be imported from projections/ or domain/.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.model.naive_views import Log, Row, Views
from tests.model.naive_views_books import depth

TRADING_DB = 2
WIDTHS = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "30m": timedelta(minutes=30),
    "1h": timedelta(hours=1),
    "4h": timedelta(hours=4),
    "1d": timedelta(days=1),
    "1w": timedelta(weeks=1),
}
TICKER_MINUTES = 1_440
TRADES_KEPT = 1_000


def market_views(log: Log) -> Views:
    """Everything that projection market shows, by (database, key)."""
    found: Views = {
        (TRADING_DB, "assets"): {a["asset_id"]: {"scale": a["scale"]} for a in log.assets},
        (TRADING_DB, "markets"): {
            opened["market_id"]: market_row(log, opened) for opened in log.of("market_opened")
        },
    }
    for opened in log.of("market_opened"):
        market_id = opened["market_id"]
        for interval in WIDTHS:
            rows = candles(log, market_id, interval)
            found[TRADING_DB, f"kline:{market_id}:{interval}"] = {str(r[0]): r for r in rows}
        minutes = burn_minutes(log, market_id)
        found[TRADING_DB, f"burns:{market_id}"] = {str(r[0]): r for r in minutes}
        found[TRADING_DB, f"trades:{market_id}"] = tape(log, market_id)
        found[TRADING_DB, f"ticker:{market_id}"] = ticker(log, opened)
        found[TRADING_DB, f"depth:{market_id}"] = depth(log, market_id)
    for asset_id in {burn["asset_id"] for burn in log.of("asset_burned")}:
        found[TRADING_DB, f"burned:{asset_id}"] = burned(log, asset_id)
        by_reserve = reserve_minutes(log, asset_id)
        found[TRADING_DB, f"reserve_burns:{asset_id}"] = {str(r[0]): r for r in by_reserve}
    return found


def market_row(log: Log, opened: Row) -> Row:
    base, quote = opened["base_asset"], opened["quote_asset"]
    rules, halted = opened["rules"], None
    for row in log.rows:
        if row.get("market_id") == opened["market_id"]:
            match row["type"]:
                case "market_configured":
                    rules = row["rules"]
                case "market_halted":
                    halted = row
                case "market_resumed":
                    halted = None
                case _:
                    pass
    return {
        "market_id": opened["market_id"],
        "base_asset": base,
        "quote_asset": quote,
        "base_scale": log.scale(base),
        "quote_scale": log.scale(quote),
        "tick_minor": opened["tick_minor"],
        "lot_minor": opened["lot_minor"],
        **rules,
        "is_halted": halted is not None,
        "halt_reason": halted["reason"] if halted else None,
    }


def trades(log: Log, market_id: str) -> list[Row]:
    return [trade for trade in log.of("trade_executed") if trade["market_id"] == market_id]


def opening(second: int, interval: str) -> datetime:
    """When the interval that holds a second began, by the calendar (UTC; weeks from Monday)."""
    at = datetime.fromtimestamp(second, UTC)
    day = at.replace(hour=0, minute=0, second=0)
    match interval:
        case "1w":
            return day - timedelta(days=at.weekday())
        case "1d":
            return day
        case "1h" | "4h":
            return day + timedelta(hours=at.hour - at.hour % int(interval[0]))
        case _:
            minute = at.minute - at.minute % int(interval[:-1])
            return day + timedelta(hours=at.hour, minutes=minute)


def candles(log: Log, market_id: str, interval: str) -> list[list[Any]]:
    """From the first trade's to the one that the log's last second falls into."""
    done = trades(log, market_id)
    if not done:
        return []
    inside: dict[datetime, list[Row]] = {}
    for trade in done:
        inside.setdefault(opening(trade["second"], interval), []).append(trade)
    rows = []
    opens, last, close = min(inside), opening(log.second, interval), 0
    while opens <= last:
        mine = inside.get(opens, [])
        is_closed = int((opens + WIDTHS[interval]).timestamp()) <= log.second
        rows.append(_candle(int(opens.timestamp()), mine, close, is_closed))
        close = mine[-1]["price_minor"] if mine else close
        opens += WIDTHS[interval]
    return rows


def _candle(second: int, mine: list[Row], close_before: int, is_closed: bool) -> list[Any]:
    prices = [trade["price_minor"] for trade in mine] or [close_before]
    bought = [trade for trade in mine if trade["taker_side"] == "buy"]
    return [
        second,
        prices[0],
        max(prices),
        min(prices),
        prices[-1],
        sum(trade["quantity_minor"] for trade in mine),
        sum(trade["quote_minor"] for trade in mine),
        len(mine),
        sum(trade["quantity_minor"] for trade in bought),
        sum(trade["quote_minor"] for trade in bought),
        sum(trade["burned_minor"] for trade in mine),
        mine[0]["position"] if mine else 0,
        mine[-1]["position"] if mine else 0,
        is_closed,
    ]


def burn_minutes(log: Log, market_id: str) -> list[list[Any]]:
    """open second, burned, trades, cumulative, last position, closed: dense from the first trade's
    minute.
    """
    done = trades(log, market_id)
    rows, cumulative = [], 0
    by_minute: dict[int, list[Row]] = {}
    for trade in done:
        by_minute.setdefault(trade["second"] // 60 * 60, []).append(trade)
    for second in range(min(by_minute), log.second + 1, 60) if done else ():
        mine = by_minute.get(second, [])
        cumulative += sum(trade["burned_minor"] for trade in mine)
        rows.append(
            [
                second,
                sum(trade["burned_minor"] for trade in mine),
                len(mine),
                cumulative,
                mine[-1]["position"] if mine else 0,
                second + 60 <= log.second,
            ]
        )
    return rows


def tape(log: Log, market_id: str) -> list[list[Any]]:
    """Newest first."""
    rows = [
        [
            trade["trade_id"],
            trade["at_ns"],
            trade["price_minor"],
            trade["quantity_minor"],
            trade["quote_minor"],
            trade["taker_side"],
            trade["burned_minor"],
            trade["position"],
        ]
        for trade in trades(log, market_id)
    ]
    return rows[::-1][:TRADES_KEPT]


def ticker(log: Log, opened: Row) -> Row | None:
    """The minute that is open and the 1,439 before it; None before the first trade."""
    done = trades(log, opened["market_id"])
    if not done:
        return None
    start = log.second // 60 * 60 - (TICKER_MINUTES - 1) * 60
    recent = [trade for trade in done if trade["second"] >= start]
    prices = [trade["price_minor"] for trade in recent] or [done[-1]["price_minor"]]
    return {
        "market_id": opened["market_id"],
        "last_price": prices[-1],
        "open_price": prices[0],
        "high_price": max(prices),
        "low_price": min(prices),
        "volume": sum(trade["quantity_minor"] for trade in recent),
        "quote_volume": sum(trade["quote_minor"] for trade in recent),
        "trade_count": len(recent),
        "burned": sum(trade["burned_minor"] for trade in recent),
        "burned_total": sum(burn["amount_minor"] for burn in burns(log, opened["base_asset"])),
        "at_ns": done[-1]["at_ns"],
    }


def burns(log: Log, asset_id: str) -> list[Row]:
    return [burn for burn in log.of("asset_burned") if burn["asset_id"] == asset_id]


def burned(log: Log, asset_id: str) -> Row:
    """All that was ever burned of an asset."""
    mine = burns(log, asset_id)
    by_trades = sum(burn["amount_minor"] for burn in mine if burn["source"] == "trade")
    by_reserve = sum(burn["amount_minor"] for burn in mine if burn["source"] == "reserve")
    return {
        "asset_id": asset_id,
        "total": by_trades + by_reserve,
        "by_trades": by_trades,
        "by_reserve": by_reserve,
        "position": mine[-1]["position"],
    }


def reserve_minutes(log: Log, asset_id: str) -> list[list[Any]]:
    """As burn_minutes, of the treasury: dense from the first minute with such a burn."""
    done = [burn for burn in burns(log, asset_id) if burn["source"] == "reserve"]
    rows = []
    for second in range(done[0]["second"] // 60 * 60, log.second + 1, 60) if done else ():
        mine = [burn for burn in done if burn["second"] // 60 * 60 == second]
        so_far = [burn for burn in done if burn["second"] < second + 60]
        rows.append(
            [
                second,
                sum(burn["amount_minor"] for burn in mine),
                0,
                sum(burn["amount_minor"] for burn in so_far),
                mine[-1]["position"] if mine else 0,
                second + 60 <= log.second,
            ]
        )
    return rows
