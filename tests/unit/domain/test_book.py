"""One market's book: what a taker meets, in which order, while orders come and go."""

import random

import pytest

from domain.book import Book, Order
from schemas.events import Side

SIDES: tuple[Side, ...] = ("buy", "sell")


def _order(order_id: int, side: Side, price_minor: int) -> Order:
    return Order(
        order_id=order_id,
        user_id="u",
        market_id="M",
        side=side,
        price_minor=price_minor,
        leaves_minor=1,
        held_asset="A",
        held_minor=1,
        post_only=False,
        self_trade_prevention="cancel_newest",
    )


def _fill(book: Book, side: Side, prices: list[int]) -> list[Order]:
    orders = [_order(number, side, price) for number, price in enumerate(prices, start=1)]
    for order, price in zip(orders, prices, strict=True):
        book.side(side).add(order, price)
    return orders


def _met_by(book: Book, taker_side: Side) -> list[tuple[int, int]]:
    return [(price, order.order_id) for price, order in book.opposite(taker_side).queue()]


def test_a_buyer_meets_asks_from_the_lowest_and_a_seller_bids_from_the_highest() -> None:
    book = Book()
    _fill(book, "sell", [30, 20, 30, 20])
    _fill(book, "buy", [10, 15, 10, 15])
    assert _met_by(book, "buy") == [(20, 2), (20, 4), (30, 1), (30, 3)]
    assert _met_by(book, "sell") == [(15, 2), (15, 4), (10, 1), (10, 3)]


def test_the_best_price_follows_what_comes_and_goes() -> None:
    for side, prices, bests in (
        ("sell", [30, 20, 20, 40], [20, 20, 30, None]),
        ("buy", [30, 40, 40, 20], [40, 40, 30, None]),
    ):
        book = Book()
        typed: Side = "sell" if side == "sell" else "buy"
        orders = _fill(book, typed, prices)
        seen = [book.side(typed).best_price_minor()]
        for number in (1, 2):
            book.side(typed).remove(orders[number], prices[number])
            seen.append(book.side(typed).best_price_minor())
        for number in (0, 3):
            book.side(typed).remove(orders[number], prices[number])
        assert [*seen, book.side(typed).best_price_minor()] == bests
        assert list(book.side(typed).queue()) == []


def test_a_book_is_crossed_from_the_price_of_its_best_order_on() -> None:
    book = Book()
    _fill(book, "sell", [30, 20])
    _fill(book, "buy", [10, 15])
    asks, bids = book.opposite("buy"), book.opposite("sell")
    assert [asks.crosses(price) for price in (19, 20, 31)] == [False, True, True]
    assert [bids.crosses(price) for price in (16, 15, 9)] == [False, True, True]
    empty = Book()
    assert not empty.side("buy").crosses(1)
    assert not empty.side("sell").crosses(10**30)


def test_levels_list_each_price_once_best_first_and_its_orders_oldest_first() -> None:
    book = Book()
    _fill(book, "sell", [30, 20, 30])
    _fill(book, "buy", [10, 15, 10])
    found = {
        side: [(price, [o.order_id for o in orders]) for price, orders in book.side(side).levels()]
        for side in SIDES
    }
    assert found == {"sell": [(20, [2]), (30, [1, 3])], "buy": [(15, [2]), (10, [1, 3])]}


@pytest.mark.parametrize("side", SIDES)
def test_many_orders_in_any_order_come_out_sorted(side: Side) -> None:
    chance = random.Random(7)
    prices = [chance.randrange(1, 60) for _ in range(400)]
    book = Book()
    orders = _fill(book, side, prices)
    kept = dict(enumerate(orders))
    for number in chance.sample(range(400), 300):
        book.side(side).remove(kept.pop(number), prices[number])
    sign = 1 if side == "sell" else -1
    expected = sorted((sign * prices[number], order.order_id) for number, order in kept.items())
    found = [(sign * price, order.order_id) for price, order in book.side(side).queue()]
    assert found == expected
