"""Where an event is found besides its stream."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import OrderCancelled, OrderPlaced, OrderReduced, TradeExecuted
from schemas.history import history_keys, order_key, trade_key, user_key
from schemas.streams import stream_id
from tests.unit.domain.scenario import of_kind
from tests.unit.domain.story import story

INT64 = range(-(1 << 63), 1 << 63)


def test_orders_are_found_by_their_number() -> None:
    for placed in of_kind(story().log, OrderPlaced):
        assert history_keys(placed) == (order_key(placed.order_id),)


def test_trades_are_found_by_their_number_and_both_users() -> None:
    trades = of_kind(story().log, TradeExecuted)
    assert trades
    for trade in trades:
        keys = history_keys(trade)
        assert set(keys) == {
            trade_key(trade.trade_id),
            user_key(trade.buyer_id),
            user_key(trade.seller_id),
        }
        assert len(keys) == len(set(keys))


def test_every_event_of_an_order_is_in_its_users_stream_or_has_the_users_key() -> None:
    for event in story().log:
        if isinstance(event, OrderPlaced | OrderReduced | OrderCancelled):
            assert stream_id(event) == f"user:{event.user_id}"


@given(st.integers(1, 1 << 61), st.integers(1, 1 << 61), st.text(max_size=40))
def test_kinds_of_keys_never_meet_and_fit_64_bits(order: int, trade: int, user: str) -> None:
    keys = {order_key(order), trade_key(trade), user_key(user)}
    assert len(keys) == 3
    assert all(key in INT64 for key in keys)
