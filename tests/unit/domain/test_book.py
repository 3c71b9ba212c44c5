"""One market's book: what a taker meets, in which order, while orders come and go."""

from domain.book import Book, Order
from schemas.events import Side


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
