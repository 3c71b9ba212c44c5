"""A market's trades from the newest back: the newest in the views, those before them in the log."""

from gateway.ports import LedgerLog, Resources
from schemas.events import TradeExecuted
from schemas.views import TRADES_KEPT, TradeView

EVENTS_AT_ONCE = 1_000
EVENTS_PER_PAGE_MAX = 5_000


async def trades_before(
    resources: Resources, market_id: str, before: int | None, limit: int
) -> tuple[list[TradeView], int | None]:
    """Up to `limit` trades before a position (None: the newest), oldest of them first, and the
    position before which the next page is, None at the end.

    Without a log those in the views are all. Raises DatabaseUnavailable, ViewsUnavailable.
    """
    # One more tells whether there is a next page; a cursor may be anywhere among those kept.
    count = limit + 1 if before is None else TRADES_KEPT
    shown, _ = await resources.views.trades(market_id, min(count, TRADES_KEPT))
    found = shown if before is None else [view for view in shown if view.position < before]
    page = found[-limit:]
    if len(found) > limit:
        return page, page[0].position
    if len(shown) < min(count, TRADES_KEPT) or not shown or resources.log is None:
        return page, None
    if len(page) == limit:
        return page, page[0].position
    return await _logged(resources.log, market_id, before or shown[-1].position + 1, limit)


async def _logged(
    log: LedgerLog, market_id: str, before: int, limit: int
) -> tuple[list[TradeView], int | None]:
    newest_first: list[TradeView] = []
    seen = 0
    while seen < EVENTS_PER_PAGE_MAX:
        part = await log.of_market_before(market_id, before=before, limit=EVENTS_AT_ONCE)
        seen += len(part.events)
        for position, event in part.events:
            if isinstance(event, TradeExecuted):
                newest_first.append(trade_view(event, position))
            if len(newest_first) == limit:
                return newest_first[::-1], position
        if part.after is None:
            return newest_first[::-1], None
        before = part.after
    return newest_first[::-1], before


def trade_view(event: TradeExecuted, position: int) -> TradeView:
    return TradeView(
        trade_id=event.trade_id,
        at_ns=event.at_ns,
        price=event.price_minor,
        quantity=event.quantity_minor,
        quote=event.quote_minor,
        taker_side=event.taker_side,
        burned=event.burned_minor,
        position=position,
    )
