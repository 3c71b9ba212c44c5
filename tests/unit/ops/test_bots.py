"""ops.demo: quotes around a sane price, patience with services that are away, exact recovery."""

import asyncio
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.backoff import Backoff
from ops.config import Config
from ops.datadir import open_data_dir
from ops.demo.bot_users import Floor, Maker, Tally
from ops.demo.ledger_api import LedgerApi
from ops.demo.quote_journal import QuoteJournal
from ops.demo.quotes import FairPrice, Quote, ladder, replacements
from schemas.wire import DepositBody, DepositResult, Market, OrderResult, PlaceOrderBody, Problem

MARKET = Market(
    market="DUR-CNY",
    base_asset="DUR",
    quote_asset="CNY",
    base_scale=8,
    quote_scale=8,
    tick_size="0.00010000",
    lot_size="0.00010000",
    burn_bps=10,
)
DEPOSIT = DepositBody(user_id="maker-1", asset="CNY", amount="5", reference="r-1")
DEPOSITED = DepositResult(user_id="maker-1", asset="CNY", amount="5", reference="r-1", position=7)


def _quote(side: str, level: int, price: str, *, placed_s: float = 0.0) -> Quote:
    return msgspec.convert(
        {
            "client_order_id": f"{side}-{level}",
            "side": side,
            "level": level,
            "price": price,
            "quantity": "1",
            "order_id": 1 + level,
            "placed_s": placed_s,
        },
        Quote,
    )


@given(st.integers(), st.decimals("0.01", "1000", places=4))
def test_a_ladder_stands_on_the_grid_and_never_crosses(seed: int, fair: Decimal) -> None:
    tick, lot = Decimal(MARKET.tick_size), Decimal(MARKET.lot_size)
    slots = ladder(fair, tick=tick, lot=lot, rng=random.Random(seed))
    bids = [slot.price for slot in slots if slot.side == "buy"]
    asks = [slot.price for slot in slots if slot.side == "sell"]
    assert max(bids) < min(asks)
    assert bids == sorted(bids, reverse=True) and asks == sorted(asks)
    assert all(slot.price % tick == 0 and slot.quantity % lot == 0 for slot in slots)
    assert all(slot.price > 0 and slot.quantity > 0 for slot in slots)


@pytest.mark.parametrize("seed", range(5))
def test_a_day_of_fair_prices_moves_but_stays_near_its_anchor(seed: int) -> None:
    walk = FairPrice(random.Random(seed), anchor=Decimal(10), last=Decimal(10), now_s=0.0)
    prices = [walk.at(float(second)) for second in range(1, 86_400)]
    assert 4 < min(prices) < max(prices) < 25
    assert max(prices) / min(prices) > Decimal("1.05")


def test_the_market_does_not_leap_after_a_pause() -> None:
    walk = FairPrice(random.Random(1), anchor=Decimal(10), last=Decimal(10), now_s=0.0)
    assert abs(walk.at(100_000.0) / 10 - 1) < Decimal("0.02")


def test_only_stale_quotes_are_replaced() -> None:
    slots = ladder(
        Decimal(10),
        tick=Decimal("0.0001"),
        lot=Decimal("0.0001"),
        rng=random.Random(1),
        levels=2,
    )
    bid = next(slot for slot in slots if (slot.side, slot.level) == ("buy", 0))
    ask = next(slot for slot in slots if (slot.side, slot.level) == ("sell", 0))
    fresh = _quote("buy", 0, str(bid.price), placed_s=99.0)
    old = _quote("sell", 0, str(ask.price), placed_s=1.0)
    astray = _quote("buy", 1, "9.5", placed_s=99.0)
    stale, empty = replacements([fresh, old, astray], slots, 100.0)
    assert stale == [old, astray]
    assert {(slot.side, slot.level) for slot in empty} == {("sell", 0), ("buy", 1), ("sell", 1)}


def test_a_journal_gives_back_what_was_noted(tmp_path: Path) -> None:
    quotes = (_quote("buy", 0, "9.9"), _quote("sell", 0, "10.1"))
    QuoteJournal(tmp_path / "orders.json").note("maker-1", quotes)
    assert QuoteJournal(tmp_path / "orders.json").left_over() == {"maker-1": quotes}


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b'{"maker-1": [{"side": "up"}]}'])
def test_a_journal_that_cannot_be_read_is_an_empty_one(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "orders.json"
    if content is not None:
        path.write_bytes(content)
    assert QuoteJournal(path).left_over() == {}


def test_back_off_grows_to_a_bound_and_starts_over() -> None:
    backoff = Backoff(random.Random(3), first_s=1.0, longest_s=4.0)
    waits = [backoff.next_s() for _ in range(6)]
    bounds = [1, 2, 4, 4, 4, 4]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    backoff.reset()
    assert backoff.next_s() <= 1.0


def _ask_for_a_deposit(
    data: Path, answer: Callable[[httpx.Request], httpx.Response]
) -> tuple[DepositResult | Problem, list[str]]:
    troubles: list[str] = []

    async def ask() -> DepositResult | Problem:
        config = Config(data_dir=open_data_dir(data).root)
        transport = httpx.MockTransport(answer)
        async with LedgerApi(
            config, rng=random.Random(1), on_trouble=troubles.append, transport=transport
        ) as api:
            return await api.deposit(DEPOSIT)

    return asyncio.run(ask()), troubles


def test_a_service_that_is_away_is_asked_again_with_the_same_body(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.content)
        if len(seen) == 1:
            raise httpx.ConnectError("refused", request=request)
        if len(seen) == 2:
            return httpx.Response(502, text="bad gateway")
        return httpx.Response(201, content=msgspec.json.encode(DEPOSITED))

    result, troubles = _ask_for_a_deposit(tmp_path, answer)
    assert result == DEPOSITED
    assert len(set(seen)) == 1 and len(seen) == 3
    assert troubles == ["trading (ConnectError)", "trading (http_502)", ""]


def test_a_token_that_is_not_accepted_is_signed_anew(tmp_path: Path) -> None:
    statuses = iter([401, 201])

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"].startswith("Bearer ")
        return httpx.Response(next(statuses), content=msgspec.json.encode(DEPOSITED))

    result, _ = _ask_for_a_deposit(tmp_path, answer)
    assert result == DEPOSITED


def test_a_refusal_is_a_value(tmp_path: Path) -> None:
    problem = Problem(title="Conflict", status=409, code="duplicate_reference", detail="")
    result, troubles = _ask_for_a_deposit(
        tmp_path, lambda _: httpx.Response(409, content=msgspec.json.encode(problem))
    )
    assert result == problem and troubles == []


class _Book:
    """Answers orders as the service does: ids count up, a repeated client id is a conflict."""

    def __init__(self) -> None:
        self.by_client_id: dict[str, int] = {}
        self.open: set[int] = set()

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            order_id = int(request.url.path.rpartition("/")[2])
            if order_id not in self.open:
                return _refusal(404, "unknown_order", {})
            self.open.discard(order_id)
            cancelled = {
                "order_id": order_id,
                "status": "cancelled",
                "leaves_quantity": "1",
                "released_asset": "DUR",
                "released": "1",
                "position": 1,
            }
            return httpx.Response(200, content=msgspec.json.encode(cancelled))
        body = msgspec.json.decode(request.content, type=PlaceOrderBody)
        assert body.client_order_id is not None
        known = self.by_client_id.get(body.client_order_id)
        if known is not None:
            return _refusal(409, "duplicate_client_order_id", {"order_id": known})
        order_id = self.by_client_id[body.client_order_id] = len(self.by_client_id) + 1
        self.open.add(order_id)
        placed = msgspec.convert(
            {
                "order_id": order_id,
                "client_order_id": body.client_order_id,
                "user_id": "maker-1",
                "market": body.market,
                "side": body.side,
                "status": "open",
                "quantity": body.quantity,
                "filled_quantity": "0",
                "leaves_quantity": body.quantity,
                "average_price": None,
                "trades": [],
                "position": 1,
            },
            OrderResult,
        )
        return httpx.Response(201, content=msgspec.json.encode(placed))


def _refusal(status: int, code: str, details: dict[str, str | int]) -> httpx.Response:
    problem = Problem(title="", status=status, code=code, detail="", details=details)
    return httpx.Response(status, content=msgspec.json.encode(problem))


def _with_maker(
    data: Path, book: _Book, work: Callable[[Maker, QuoteJournal], object], run: str
) -> None:
    async def play() -> None:
        root = open_data_dir(data).root
        rng, journal = random.Random(1), QuoteJournal(root / "orders.json")
        async with LedgerApi(
            Config(data_dir=root),
            rng=rng,
            on_trouble=lambda _: None,
            transport=httpx.MockTransport(book.answer),
        ) as api:
            floor = Floor(
                api=api,
                market=MARKET,
                fair=FairPrice(rng, anchor=Decimal(10), last=Decimal(10), now_s=0.0),
                rng=rng,
                tally=Tally(),
                run=run,
            )
            pending = work(Maker("maker-1", floor, journal), journal)
            assert asyncio.iscoroutine(pending)
            await pending

    asyncio.run(play())


def test_a_makers_ladder_stays_bounded_and_a_restart_clears_it(tmp_path: Path) -> None:
    book = _Book()

    async def trade(maker: Maker, _: QuoteJournal) -> None:
        for second in range(0, 60, 2):
            await maker.step(float(second))
            assert len(book.open) == 10

    async def clear(maker: Maker, journal: QuoteJournal) -> None:
        await maker.clear(journal.left_over()["maker-1"])

    _with_maker(tmp_path, book, trade, "a")
    assert len(book.by_client_id) > 20
    _with_maker(tmp_path, book, clear, "b")
    assert book.open == set()
    assert QuoteJournal(tmp_path / "orders.json").left_over() == {"maker-1": ()}


def test_orders_of_unknown_fate_are_found_by_their_ids(tmp_path: Path) -> None:
    """Killed between sending an order and reading the answer: the journal knows only its id."""
    book = _Book()
    book.by_client_id["buy-0"] = 1
    book.open.add(1)
    sent = msgspec.structs.replace(_quote("buy", 0, "9.9"), order_id=None)
    never_sent = msgspec.structs.replace(_quote("sell", 0, "10.1"), order_id=None)

    async def clear(maker: Maker, _: QuoteJournal) -> None:
        await maker.clear((sent, never_sent))

    _with_maker(tmp_path, book, clear, "b")
    assert book.by_client_id.keys() == {"buy-0", "sell-0"} and book.open == set()
