"""What each channel of the stream carries, for documents: shapes and words, no behaviour.

What the gateway does with a kind of channel is in gateway.stream.channels; a test holds both
together.
"""

from types import UnionType
from typing import Final

import msgspec

from schemas.publications import (
    Account,
    BalanceNow,
    BurnPublication,
    Depth,
    DepthChange,
    Kline,
    MiningPool,
    Pulse,
    Ticker,
    Trade,
)
from schemas.wire import BurnsShown, TradesShown

_COUNTED: Final = "1, 2, 3 …"
_SECOND: Final = "the second"
_SKIPPING: Final = "a position in the log; rises but skips"
_STATE: Final = "Newest wins: a client that lags is spared all but the newest."


class ChannelShape(msgspec.Struct, frozen=True, kw_only=True):
    """address: the name with {placeholders}. snapshot, publication: shape of `data`.

    sends_changes: a publication holds only the fields that changed since the one before.
    offsets, words: for people.
    """

    address: str
    snapshot: type[msgspec.Struct] | UnionType
    publication: type[msgspec.Struct]
    sends_changes: bool = False
    is_private: bool = False
    offsets: str = _COUNTED
    words: str


CHANNELS: Final[dict[str, ChannelShape]] = {
    "pulse": ChannelShape(
        address="pulse",
        snapshot=Pulse | None,
        publication=Pulse,
        sends_changes=True,
        offsets=_SECOND,
        words="Once a second: the mining index, and the last price of each market. The offset is"
        f" `second`, which publications leave out. {_STATE}",
    ),
    "mining": ChannelShape(
        address="mining",
        snapshot=MiningPool | None,
        publication=MiningPool,
        sends_changes=True,
        words=f"The pool, once a minute. {_STATE}",
    ),
    "ticker": ChannelShape(
        address="ticker.{market}",
        snapshot=Ticker | None,
        publication=Ticker,
        sends_changes=True,
        words=f"The last 24 hours, when they changed, once a second at most. {_STATE}",
    ),
    "trades": ChannelShape(
        address="trades.{market}",
        snapshot=TradesShown,
        publication=Trade,
        words="Each trade. The snapshot has the newest 50, oldest of them first.",
    ),
    "depth": ChannelShape(
        address="depth.{market}",
        snapshot=Depth,
        publication=DepthChange,
        offsets=_SKIPPING,
        words="The best levels of the order book. A publication has the levels that changed, and in"
        " `previous` the offset that it follows: if that is not yours, subscribe again. A client"
        " that lags gets a snapshot.",
    ),
    "kline": ChannelShape(
        address="kline.{market}.{interval}",
        snapshot=Kline | None,
        publication=Kline,
        sends_changes=True,
        words="The open candle, once a second at most, and each candle when it closes. A client"
        " that lags is spared values of the open candle, never a closed one.",
    ),
    "burns": ChannelShape(
        address="burns.{market}",
        snapshot=BurnsShown,
        publication=BurnPublication,
        words="Each burn, and each minute when it closes. The snapshot has the last 60 minutes.",
    ),
    "account": ChannelShape(
        address="account",
        snapshot=Account,
        publication=Account,
        is_private=True,
        offsets=_SKIPPING,
        words="The whole account of the token's user, when it changed.",
    ),
    "balance": ChannelShape(
        address="balance",
        snapshot=BalanceNow | None,
        publication=BalanceNow,
        is_private=True,
        offsets=_SECOND,
        words="What the token's user has of the mined asset and what it is worth, each second, for"
        f" clients that do not do the arithmetic themselves. {_STATE}",
    ),
}
PLACEHOLDERS: Final = {
    "market": "A market's id, such as DUR-CNY: GET /v1/markets lists them.",
    "interval": "The width of a candle.",
}
