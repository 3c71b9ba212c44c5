"""The deep history a second time: rows of the closed minutes, of every movement and every weight.

Minutes come from naive_views_market's lists of trades, movements from naive_views_users' cash book,
and a user's mining records from the seconds that naive_views_mining adds up.
"""

from typing import Any

from tests.model.naive_views import Log, Row
from tests.model.naive_views_market import burn_minutes, candles, reserve_minutes
from tests.model.naive_views_mining import Mining
from tests.model.naive_views_users import movements

Rows = dict[str, list[Row]]
CANDLE = (
    "open_second",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trade_count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "burned",
    "first_position",
    "last_position",
)


def history_rows(log: Log) -> Rows:
    """Everything that projection history stores, by table."""
    return {
        "mining_transactions": transactions(log),
        "burn_records": burn_records(log),
        "minute_klines": minute_klines(log),
        "weight_changes": weight_changes(log),
        "index_marks": index_marks(log),
    }


def transactions(log: Log) -> list[Row]:
    return [
        {
            "position": row["position"],
            "at_ns": row["at_ns"],
            "user_id": user_id,
            "type": row["type"],
            "asset_id": asset_id,
            "available_minor": available,
            "held_minor": held,
            **_reason(row, user_id),
        }
        for row in log.rows
        for user_id, asset_id, available, held in movements(row)
    ]


def _reason(row: Row, user_id: str) -> Row:
    names = ("market_id", "order_id", "trade_id", "reference")
    reason = {name: row.get(name) for name in names}
    reason |= dict.fromkeys(("price_minor", "quantity_minor", "burned_minor"))
    if row["type"] == "trade_executed":
        is_taker = (user_id == row["buyer_id"]) == (row["taker_side"] == "buy")
        reason["order_id"] = row["taker_order_id" if is_taker else "maker_order_id"]
        reason |= {name: row[name] for name in ("price_minor", "quantity_minor", "burned_minor")}
    if row["type"] == "asset_burned":
        reason["burned_minor"] = row["amount_minor"]
    return reason


def closing_position(log: Log, opened: int) -> int:
    """Of the first event after a minute."""
    return int(next(row["position"] for row in log.rows if row["second"] >= opened + 60))


def burn_records(log: Log) -> list[Row]:
    found = []
    for market in log.of("market_opened"):
        whose = {"market_id": market["market_id"], "asset_id": market["base_asset"]}
        minutes = burn_minutes(log, market["market_id"])
        found += [_burn_record(log, m, {"source": "trade", **whose}) for m in minutes if m[-1]]
    for asset_id in sorted({burn["asset_id"] for burn in log.of("asset_burned")}):
        whose = {"source": "reserve", "market_id": None, "asset_id": asset_id}
        found += [_burn_record(log, m, whose) for m in reserve_minutes(log, asset_id) if m[-1]]
    return found


def _burn_record(log: Log, minute: list[Any], whose: Row) -> Row:
    opened, burned, trade_count, cumulative, *_ = minute
    return {
        "position": closing_position(log, opened),
        "open_second": opened,
        **whose,
        "burned_minor": burned,
        "trade_count": trade_count,
        "cumulative_minor": cumulative,
    }


def minute_klines(log: Log) -> list[Row]:
    return [
        {
            "position": closing_position(log, candle[0]),
            "market_id": market["market_id"],
            **dict(zip(CANDLE, candle, strict=False)),
        }
        for market in log.of("market_opened")
        for candle in candles(log, market["market_id"], "1m")
        if candle[-1]
    ]


def weight_changes(log: Log) -> list[Row]:
    """What each user's contribution was after every event that is about it."""
    mining = Mining(Log([]))
    found = []
    for row in log.rows:
        mining.take(row)
        if row["type"] == "accrual_settled" or row["type"].startswith("contribution_"):
            miner = mining.miners[row["user_id"]]
            found.append(
                {
                    "position": row["position"],
                    "from_second": mining.next_second,
                    "user_id": row["user_id"],
                    "weight": miner.weight,
                    "entry_index": miner.entry_index,
                    "entry_fraction": miner.entry_fraction,
                    "settled_minor": miner.settled,
                }
            )
    return found


def index_marks(log: Log) -> list[Row]:
    mining = Mining(Log([]))
    found = []
    for row in log.rows:
        mining.take(row)
        if row["type"] == "mining_allocated" and row["second"] % 60 == 59:
            found.append(
                {
                    "position": row["position"],
                    "open_second": row["second"] - 59,
                    "index": mining.index,
                    "allocated_minor": mining.allocated,
                }
            )
    return found


def mining_records(log: Log, user_id: str) -> list[Row]:
    """Of every minute that is over, from genesis on: what its seconds brought, one by one."""
    mining = Mining(Log([]))
    found: list[Row] = []
    settled = cumulative = 0
    for row in log.rows:
        mining.take(row)
        if row["type"] == "mining_allocated" and row["second"] % 60 == 59:
            opened = row["second"] - 59
            miner = mining.miners.get(user_id)
            accrued = mining.minutes.get((user_id, opened), 0)
            cumulative += accrued
            found.append(
                {
                    "open_second": opened,
                    "weight": miner.weight if miner else 0,
                    "accrued_minor": accrued,
                    "settled_minor": miner.settled - settled if miner else 0,
                    "cumulative_minor": cumulative,
                }
            )
            settled = miner.settled if miner else 0
    return found
