"""Rows of the deep history as the wire shows them."""

from collections.abc import Sequence

from gateway.catalogue import Catalogue
from schemas import deep_history
from schemas.amounts import format_amount
from schemas.publications import MS_NS
from schemas.views import MarketView
from schemas.wire_trading import Transaction


async def transactions(
    catalogue: Catalogue, rows: Sequence[deep_history.Transaction]
) -> tuple[Transaction, ...]:
    """Rendered at the scales of their assets and markets. Raises Refusal, ViewsUnavailable."""
    scales = await catalogue.scales(sorted({row.asset_id for row in rows}))
    names = {row.market_id for row in rows if row.market_id is not None}
    markets = {name: await catalogue.market(name) for name in names}
    return tuple(
        _transaction(row, scales[row.asset_id], markets.get(row.market_id or "")) for row in rows
    )


def _transaction(
    row: deep_history.Transaction, scale: int, market: MarketView | None
) -> Transaction:
    base, quote = (0, 0) if market is None else (market.base_scale, market.quote_scale)
    return Transaction(
        position=row.position,
        time=row.at_ns // MS_NS,
        type=row.type,
        asset=row.asset_id,
        available=format_amount(row.available_minor, scale),
        held=format_amount(row.held_minor, scale),
        market=row.market_id,
        order_id=row.order_id,
        trade_id=row.trade_id,
        reference=row.reference,
        price=_shown(row.price_minor, quote),
        quantity=_shown(row.quantity_minor, base),
        burned=_shown(row.burned_minor, base),
    )


def _shown(amount_minor: int | None, scale: int) -> str | None:
    return None if amount_minor is None else format_amount(amount_minor, scale)
