"""The users' views a second time: each user's lines in a cash book, and the user's own orders.

What a user is owed comes from naive_views_mining, which adds it up second by second.
"""

from collections.abc import Iterator
from typing import Any

from tests.model.naive_views import Log, Row, Views
from tests.model.naive_views_books import Orders
from tests.model.naive_views_mining import Mining

CONTRIBUTION_DB = 0
TRADING_DB = 2
ADMIN_DB = 3
FILLS_KEPT = 100


def movements(row: Row) -> Iterator[tuple[str, str, int, int]]:
    """(user, asset, available, held) that an event adds to its users' accounts."""
    match row["type"]:
        case "funds_deposited" | "accrual_settled":
            yield row["user_id"], row["asset_id"], row["amount_minor"], 0
        case "funds_withdrawn":
            yield row["user_id"], row["asset_id"], -row["amount_minor"], 0
        case "order_placed":
            yield row["user_id"], row["held_asset"], -row["held_minor"], row["held_minor"]
        case "order_reduced" | "order_cancelled":
            released = row["released_minor"]
            yield row["user_id"], row["released_asset"], released, -released
        case "trade_executed":
            yield from _trade(row)
        case "asset_burned" if row["source"] == "trade":
            yield row["user_id"], row["asset_id"], 0, -row["amount_minor"]
        case _:
            pass


def _trade(row: Row) -> Iterator[tuple[str, str, int, int]]:
    handed_over = row["quantity_minor"] - row["burned_minor"]  # the burn's own event takes the rest
    paid, refund = row["quote_minor"], row["refund_minor"]
    buyer, seller = row["buyer_id"], row["seller_id"]
    yield buyer, row["base_asset"], handed_over - row["buyer_fee_minor"], 0
    yield buyer, row["quote_asset"], refund, -paid - refund
    yield seller, row["quote_asset"], paid - row["seller_fee_minor"], 0
    yield seller, row["base_asset"], 0, -handed_over


def touched(row: Row) -> list[str]:
    """The users whose account or contribution an event is about."""
    if row["type"] == "trade_executed":
        return [row["buyer_id"], row["seller_id"]]
    return [row["user_id"]] if row.get("user_id") else []


def balances(log: Log) -> dict[str, dict[str, list[int]]]:
    """[available, held] by user and asset."""
    found: dict[str, dict[str, list[int]]] = {}
    for row in log.rows:
        for user_id in touched(row):
            found.setdefault(user_id, {})
        for user_id, asset_id, available, held in movements(row):
            balance = found[user_id].setdefault(asset_id, [0, 0])
            balance[0] += available
            balance[1] += held
    return found


def users_views(log: Log) -> Views:
    """Everything that projection accounts shows, by (database, key)."""
    found: Views = {}
    orders, mining = Orders(log), Mining(log)
    for user_id, by_asset in balances(log).items():
        mine = [row for row in log.rows if user_id in touched(row)]
        found[TRADING_DB, f"account:{user_id}"] = {
            "user_id": user_id,
            "balances": by_asset,
            "offset": len(mine),
            "position": mine[-1]["position"],
            "frozen": frozen(mine),
        }
        found[TRADING_DB, f"orders:{user_id}"] = {
            str(order.placed["order_id"]): order.row()
            for order in orders.placed
            if order.is_open and order.placed["user_id"] == user_id
        }
        found[TRADING_DB, f"fills:{user_id}"] = fills(log, user_id)
    return found | contributions(mining) | leaders(log, mining)


def frozen(mine: list[Row]) -> str | None:
    """Why the account is, by the last word about it."""
    words = [row for row in mine if row["type"] in {"account_frozen", "account_unfrozen"}]
    return words[-1].get("reason") if words else None


def fills(log: Log, user_id: str) -> list[list[Any]]:
    """Newest first."""
    rows = []
    for trade in log.of("trade_executed"):
        side = {trade["buyer_id"]: "buy", trade["seller_id"]: "sell"}.get(user_id)
        if side is None:
            continue
        role = "taker" if trade["taker_side"] == side else "maker"
        rows.append(
            [
                trade["trade_id"],
                trade[f"{role}_order_id"],
                trade["market_id"],
                side,
                trade["price_minor"],
                trade["quantity_minor"],
                trade["quote_minor"],
                trade["buyer_fee_minor" if side == "buy" else "seller_fee_minor"],
                trade["burned_minor"],
                role,
                trade["at_ns"],
                trade["position"],
            ]
        )
    return rows[::-1][:FILLS_KEPT]


def contributions(mining: Mining) -> Views:
    return {
        (CONTRIBUTION_DB, f"contribution:{user_id}"): {
            "user_id": user_id,
            "weight": miner.weight,
            "entry_index": miner.entry_index,
            "entry_fraction": miner.entry_fraction,
            "settled_minor": miner.settled,
            "grants": miner.grants,
            "position": miner.position,
        }
        for user_id, miner in mining.miners.items()
    }


def leaders(log: Log, mining: Mining) -> Views:
    """Scores are doubles; who has nothing is absent."""
    miners = mining.miners.items()
    found: Views = {
        (CONTRIBUTION_DB, "weights"): {u: float(m.weight) for u, m in miners if m.weight},
        (ADMIN_DB, "leaders:mined"): {u: float(m.settled) for u, m in miners if m.settled},
    }
    for user_id, by_asset in balances(log).items():
        for asset_id, (available, held) in by_asset.items():
            if available + held:
                place = (ADMIN_DB, f"leaders:holding:{asset_id}")
                found.setdefault(place, {})[user_id] = float(available + held)
    return found
