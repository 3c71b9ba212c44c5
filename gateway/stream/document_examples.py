"""One worked example of every message of the stream, for its document and for the wire's samples.

Their numbers are those of docs/protocol.md: alice has weight 3 of 3, seven seconds after genesis.
"""

from typing import Final

import msgspec

from schemas import publications
from schemas.publications import BalanceNow, Depth, DepthChange, Pulse, Ticker
from schemas.wire import (
    STREAM_VERSION,
    Ack,
    BurnsShown,
    Draining,
    Fresh,
    Hello,
    Pong,
    Recovered,
    Stale,
    StreamError,
    StreamLimits,
    TradesShown,
    WireCode,
)

EPOCH: Final = "f079ff2b"
SECOND: Final = 1_795_345_343
EXPIRES_SECOND: Final = 1_795_388_506
_OPENED_MS: Final = 1_795_345_320_000
_TRADED_MS: Final = 1_795_345_337_988

REQUESTS: Final[dict[str, dict[str, object]]] = {
    "auth": {"op": "auth", "id": 1, "token": "eyJhbGciOiJFZERTQSJ9.e30.c2ln"},
    "subscribe": {
        "op": "subscribe",
        "id": 2,
        "channels": [
            {"ch": "pulse"},
            {"ch": "trades.DUR-CNY", "since": {"epoch": EPOCH, "offset": 41}},
        ],
    },
    "unsubscribe": {"op": "unsubscribe", "id": 3, "channels": ["pulse"]},
    "ping": {"op": "ping", "id": 4},
}
LIMITS: Final = StreamLimits(
    message_bytes=16_384,
    messages_per_second=50,
    subscriptions=64,
    channels_per_10_seconds=128,
    unread_bytes=1_048_576,
    ping_seconds=25,
    pong_seconds=20,
)
ANSWERS: Final[dict[str, msgspec.Struct]] = {
    "hello": Hello(version=STREAM_VERSION, limits=LIMITS),
    "ack": Ack(id=1, expires_at=EXPIRES_SECOND),
    "pong": Pong(id=4),
    "error": StreamError(
        id=2,
        code=WireCode.UNKNOWN_CHANNEL,
        message="No such channel.",
        ch="kline.DUR-CNY.2m",
    ),
    "recovered": Recovered(ch="trades.DUR-CNY", epoch=EPOCH, offset=42),
    "stale": Stale(),
    "fresh": Fresh(),
    "draining": Draining(closes_within_ms=20_000, reconnect_within_ms=20_000),
}

_PULSE: Final = Pulse(
    second=SECOND,
    index="4304240283865562043733333333",
    reward="1.00000000",
    weight_total="3",
    prices={"DUR-CNY": "2.50000000"},
)
_POOL: Final = publications.MiningPool(
    asset="DUR",
    scale=8,
    pool="1000000.00000000",
    allocated="7.00000000",
    remaining="999993.00000000",
    reward_per_second="1.00000000",
    weight_total="3",
    index="4304240283865562043733333333",
    carry="1",
    second=SECOND,
    genesis_second=SECOND - 7,
    position=48,
)
_MINUTE_LATER: Final = {
    "allocated": "67.00000000",
    "remaining": "999933.00000000",
    "index": "41197728431284665275733333333",
    "second": SECOND + 60,
    "position": 108,
}
_TICKER: Final = Ticker(
    market="DUR-CNY",
    last="2.50000000",
    open="2.40000000",
    high="2.50000000",
    low="2.40000000",
    change="0.10000000",
    volume="4.00000000",
    quote_volume="10.00000000",
    trade_count=1,
    burned="0.00400000",
    burned_total="0.00400000",
    time=_TRADED_MS,
)
_TRADE: Final = publications.Trade(
    trade_id=42,
    time=_TRADED_MS,
    price="2.50000000",
    quantity="4.00000000",
    quote_quantity="10.00000000",
    taker_side="buy",
    burned="0.00400000",
    position=47,
)
_CANDLE: Final = publications.Kline(
    open_time=_OPENED_MS,
    close_time=_OPENED_MS + 59_999,
    open="2.40000000",
    high="2.50000000",
    low="2.40000000",
    close="2.50000000",
    volume="4.00000000",
    quote_volume="10.00000000",
    trade_count=1,
    taker_buy_volume="4.00000000",
    taker_buy_quote_volume="10.00000000",
    burned="0.00400000",
    first_position=47,
    last_position=47,
    closed=False,
)
_BURN: Final = publications.BurnPublication(
    trade=publications.Burn(
        trade_id=42,
        time=_TRADED_MS,
        burned="0.00400000",
        burned_total="0.00400000",
        position=47,
    )
)
_BURNED_MINUTE: Final = publications.BurnRecord(
    open_time=_OPENED_MS,
    close_time=_OPENED_MS + 59_999,
    burned="0.00400000",
    trade_count=1,
    cumulative="0.00400000",
    closed=False,
)
_ACCOUNT: Final = publications.Account(
    user_id="alice",
    balances=(
        publications.AssetBalance(
            asset="DUR",
            scale=8,
            available="1000.00000000",
            held="0.00000000",
            total="1000.00000000",
        ),
    ),
    mining=publications.Mining(
        weight="3", entry_index="0", entry_fraction="0", settled="0.00000000"
    ),
    position=48,
)
_BALANCE: Final = BalanceNow(
    second=SECOND,
    asset="DUR",
    amount="1006.99999999",
    accrued="6.99999999",
    values={"DUR-CNY": "2517.49999997"},
)
_BALANCE_NEXT: Final = BalanceNow(
    second=SECOND + 1,
    asset="DUR",
    amount="1007.99999999",
    accrued="7.99999999",
    values={"DUR-CNY": "2530.07999997"},
)

# By channel: offset and data of a snapshot, then offset and data of the publication after it.
SHOWN: Final[dict[str, tuple[int, object, int, object]]] = {
    "pulse": (
        SECOND,
        _PULSE,
        SECOND + 1,
        {"index": "4919131752989213764266666666", "prices": {"DUR-CNY": "2.51000000"}},
    ),
    "mining": (12, _POOL, 13, _MINUTE_LATER),
    "ticker": (7, _TICKER, 8, {"last": "2.51000000", "high": "2.51000000", "change": "0.11000000"}),
    "trades": (41, TradesShown(items=()), 42, _TRADE),
    "depth": (
        47,
        Depth(bids=(("2.40000000", "5.00000000"),), asks=(("2.50000000", "1.00000000"),)),
        52,
        DepthChange(bids=(("2.45000000", "3.00000000"),), asks=(("2.50000000", "0"),), previous=47),
    ),
    "kline": (9, _CANDLE, 10, {"close": "2.51000000", "high": "2.51000000", "trade_count": 2}),
    "burns": (
        3,
        BurnsShown(items=(_BURNED_MINUTE,), cumulative="0.00400000"),
        4,
        _BURN,
    ),
    "account": (48, _ACCOUNT, 53, _ACCOUNT),
    "balance": (SECOND, _BALANCE, SECOND + 1, _BALANCE_NEXT),
}
