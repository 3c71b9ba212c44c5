"""The trade tape: one row per trade_executed."""

from schemas.events import TradeExecuted
from schemas.views import TradeView


def trade_row(event: TradeExecuted, position: int) -> TradeView:
    """The tape's row of a trade; burned is what asset_burned books next, 0 if nothing is."""
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
