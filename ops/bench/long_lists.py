"""What `durian bench lists` reads: `rows` of everything, in the stores that the services read.

What has a meaning across stores (orders, fills, trades, grants, allocations) comes from a log that
the domain wrote and the projections folded; what a list only counts is put there by the thousand.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice

import msgspec
import psycopg
from redis.asyncio import Redis

from domain.ledger import tick
from domain.state import LedgerState
from ops.bench import order_mix
from ops.bench.gateway_feed import EPOCH, Views
from ops.bench.order_mix import LOT, MARKET, MID_TICKS, TICK, user_name
from projections.history.folder import HistoryFolder
from projections.history.store import HistoryStore
from projections.partition import PartitionWorker, Record
from schemas import views
from schemas.codecs import encode_event
from schemas.commands import AdjustContribution, PlaceOrder
from schemas.events import LedgerEvent, Side
from schemas.records import RECORD_EVENTS_MAX, RecordHead
from schemas.views import AccountView, BalanceView, BurnMinute, Candle, ContributionView, GrantView

FIRST_USER = 1_000_000
SELLER, BUYER = user_name(FIRST_USER), user_name(FIRST_USER + 1)
SCORED_AT_ONCE = 2_000
FAR_SECOND = 4_000_000_000
LADDER = ("1w", "1d", "1h", "1m")

_MARKS = """
INSERT INTO history_1.index_marks (position, open_second, index, allocated_minor)
SELECT 0, %(first)s + 60 * n, n, 60 FROM generate_series(0, %(rows)s - 1) AS n
"""
_EXTEND = """
SELECT public.durian_extend_history('1', %(first)s + 86400 * n)
FROM generate_series(0, %(days)s) AS n
"""
_ACCOUNTS = """
INSERT INTO accounts (user_id, role, user_name, password_hash, created_ms)
SELECT 'bench' || n, 'user', 'bench' || n, '', n FROM generate_series(1, %s) AS n
"""


def long_log(rows: int, genesis_second: int) -> Iterator[LedgerEvent]:
    """`rows` seconds, in each of which two orders trade and a grant changes."""
    state = LedgerState()
    for command in order_mix.opening(genesis_second):
        yield from order_mix.apply_command(state, command)
    yield from tick(state, genesis_second)
    for funded in (*order_mix.funding(2, FIRST_USER), *order_mix.granting(2, FIRST_USER)):
        yield from order_mix.apply_command(state, funded)
    for number in range(rows):
        yield from tick(state, genesis_second + 1 + number)
        yield from order_mix.apply_command(state, _order("sell", SELLER, number))
        yield from order_mix.apply_command(state, _order("buy", BUYER, number))
        change = AdjustContribution(user_id=BUYER, grant_id="g", weight=1_000 + number % 97)
        yield from order_mix.apply_command(state, change)


def _order(side: Side, user_id: str, number: int) -> PlaceOrder:
    return PlaceOrder(
        user_id=user_id,
        client_order_id=str(number),
        market_id=MARKET,
        side=side,
        order_type="limit",
        price_minor=MID_TICKS * TICK,
        quantity_minor=LOT,
    )


async def fold(
    log: Iterator[LedgerEvent], redis_url: str, history_url: str, progress: Callable[[int], None]
) -> None:
    """Into the hot views and the deep history. progress: events so far."""
    hot, history = Views(redis_url), HistoryStore(history_url)
    worker = PartitionWorker(
        partition=0, folder=HistoryFolder(), store=history, new_epoch=lambda: EPOCH
    )
    position = sequence = 0
    try:
        while events := list(islice(log, RECORD_EVENTS_MAX)):
            first, position, sequence = position + 1, position + len(events), sequence + 1
            head = RecordHead(first=first, last=position, sequence=sequence)
            lines = b"\n".join(encode_event(event) for event in events)
            record = Record(offset=sequence - 1, head=head, value=lines)
            await asyncio.gather(hot.fold(events), worker.receive([record]))
            progress(position)
    finally:
        await hot.close()
        await history.close()


def add_marks(history_url: str, rows: int, before_second: int) -> int:
    """Minutes of mining before the log's; the first one's second. history_url: the owner's."""
    first = before_second // 60 * 60 - 60 * rows
    values = {"first": first, "rows": rows, "days": rows // 1_440 + 1}
    with psycopg.connect(history_url) as connection:
        connection.execute(_EXTEND.encode(), values)
        connection.execute(_MARKS.encode(), values)
    return first


def add_accounts(auth_url: str, rows: int) -> None:
    """auth_url: the owner's."""
    with psycopg.connect(auth_url) as connection:
        connection.execute(_ACCOUNTS.encode(), (rows,))


def multiply(url: str, table: str, rows: int, *, changed: str) -> None:
    """So many copies of the table's newest row; changed: "column = expression of n", with commas.

    url: the owner's.
    """
    changes = dict(change.split(" = ", 1) for change in changed.split(", "))
    with psycopg.connect(url) as connection:
        # Copies belong to no hash chain and wake nobody.
        connection.execute("SET session_replication_role = replica")
        found = connection.execute(
            "SELECT column_name, is_identity FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = %s",
            (table,),
        ).fetchall()
        names = [name for name, is_identity in found if is_identity == "NO"]
        chosen = ", ".join(changes.get(name, f"t.{name}") for name in names)
        statement = (
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {chosen}"
            f" FROM (SELECT * FROM {table} ORDER BY 1 DESC LIMIT 1) AS t,"
            f" generate_series(1, {rows}) AS n"
        )
        connection.execute(statement.encode())


async def add_users(redis_url: str, rows: int) -> None:
    """Users with a balance, a weight, a grant that ends, and a place on every board."""
    trading, contribution, admin = (
        Redis.from_url(redis_url, db=number)
        for number in (views.TRADING_DB, views.CONTRIBUTION_DB, views.ADMIN_DB)
    )
    for first in range(0, rows, SCORED_AT_ONCE):
        users = {user_name(number): number + 1 for number in range(first, first + SCORED_AT_ONCE)}
        users = {user: score for user, score in users.items() if score <= rows}
        await trading.mset(
            {_key(views.account_key(user)): _account(user, score) for user, score in users.items()}
        )
        await contribution.mset(
            {_key(views.contribution_key(user)): _grants(user, n) for user, n in users.items()}
        )
        await contribution.zadd(_key(views.WEIGHTS_KEY), users)
        await admin.zadd(_key(views.MINED_KEY), users)
        await admin.zadd(_key(views.holding_key("DUR")), users)
    for client in (trading, contribution, admin):
        await client.aclose()


def _key(name: str) -> str:
    return views.stored_key(views.ACCOUNTS, views.FIRST_GENERATION, name)


def _account(user_id: str, score: int) -> bytes:
    held = {"DUR": BalanceView(available=score, held=0)}
    return msgspec.json.encode(AccountView(user_id=user_id, balances=held))


def _grants(user_id: str, score: int) -> bytes:
    grant = GrantView(source="bench", weight=score, expires_second=FAR_SECOND + score)
    view = ContributionView(user_id=user_id, weight=score, settled_minor=score, grants={"g": grant})
    return msgspec.json.encode(view)


async def add_minutes(redis_url: str, rows: int, before_second: int) -> int:
    """Candles and burns of so many minutes before the log's; the first one's second."""
    client = Redis.from_url(redis_url, db=views.TRADING_DB)
    end = before_second // 60 * 60
    first = end - 60 * rows
    for interval in LADDER:
        width = views.INTERVAL_SECONDS[interval]
        begin = (first - views.WEEK_OPENS_AT) // width * width + views.WEEK_OPENS_AT
        opens = range(begin if width > 60 else first, end, width)
        candles = {str(second): _candle(second) for second in opens}
        await _put(client, views.kline_key(MARKET, interval), candles)
    burns = {
        str(second): msgspec.json.encode(BurnMinute(open_second=second, cumulative=0, closed=True))
        for second in range(first, end, 60)
    }
    await _put(client, views.burns_key(MARKET), burns)
    await client.aclose()
    return first


async def _put(client: Redis, name: str, fields: dict[str, bytes]) -> None:
    key, waiting = (
        views.stored_key(views.MARKET, views.FIRST_GENERATION, name),
        iter(fields.items()),
    )
    while some := dict(islice(waiting, SCORED_AT_ONCE)):
        # What the log's own folds wrote stays.
        async with client.pipeline(transaction=False) as pipe:
            for field, value in some.items():
                pipe.hsetnx(key, field, value.decode())
            await pipe.execute()


def _candle(second: int) -> bytes:
    price = MID_TICKS * TICK
    candle = Candle(open_second=second, open=price, high=price, low=price, close=price, closed=True)
    return msgspec.json.encode(candle)
