"""Names of channels, and for each kind which feed carries it and how it may be queued.

A channel's key is its name, but for `account`, which is another channel for every user.
"""

import enum
from collections.abc import Callable

import msgspec

from gateway.views import partition_of_accounts
from schemas.views import ACCOUNTS, INTERVAL_SECONDS, MARKET, MINING


class Kind(enum.StrEnum):
    PULSE = "pulse"
    MINING = "mining"
    TICKER = "ticker"
    TRADES = "trades"
    KLINE = "kline"
    BURNS = "burns"
    ACCOUNT = "account"


class KindTraits(msgspec.Struct, frozen=True, kw_only=True):
    """is_contiguous: offsets count 1, 2, 3 …; otherwise they rise but may skip.

    newest_wins: a client that lags may be spared all publications but the newest.
    """

    projection: str
    is_contiguous: bool = True
    newest_wins: bool = False


TRAITS: dict[Kind, KindTraits] = {
    Kind.PULSE: KindTraits(projection=MINING, is_contiguous=False, newest_wins=True),
    Kind.MINING: KindTraits(projection=MINING, newest_wins=True),
    Kind.TICKER: KindTraits(projection=MARKET, newest_wins=True),
    Kind.TRADES: KindTraits(projection=MARKET),
    Kind.KLINE: KindTraits(projection=MARKET),
    Kind.BURNS: KindTraits(projection=MARKET),
    Kind.ACCOUNT: KindTraits(projection=ACCOUNTS, is_contiguous=False),
}
_ACCOUNT_PREFIX = f"{Kind.ACCOUNT}:"


class FeedId(msgspec.Struct, frozen=True):
    """One feed stream and the checkpoint beside it."""

    projection: str
    partition: int


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel that a name or key stands for; the fields its kind does not have are empty."""

    key: str
    name: str
    kind: Kind
    market_id: str = ""
    interval: str = ""
    user_id: str = ""

    @property
    def traits(self) -> KindTraits:
        return TRAITS[self.kind]

    @property
    def feed(self) -> FeedId:
        partition = partition_of_accounts(self.user_id) if self.kind is Kind.ACCOUNT else 0
        return FeedId(self.traits.projection, partition)


def account_key(user_id: str) -> str:
    return _ACCOUNT_PREFIX + user_id


def parse_name(
    name: str, *, user_id: str | None, has_market: Callable[[str], bool]
) -> Channel | None:
    """What a client means by a name; None if there is no such channel (for this user)."""
    if name == Kind.ACCOUNT:
        return parse_key(account_key(user_id)) if user_id is not None else None
    # Not parse_key: a client must not name another user's account by its key.
    channel = _parse_public(name)
    if channel is None or (channel.market_id and not has_market(channel.market_id)):
        return None
    return channel


def parse_key(key: str) -> Channel | None:
    """The channel of a key, which may well name a market that does not exist; None for nonsense."""
    if key.startswith(_ACCOUNT_PREFIX):
        user_id = key.removeprefix(_ACCOUNT_PREFIX)
        return Channel(key=key, name=Kind.ACCOUNT, kind=Kind.ACCOUNT, user_id=user_id)
    return _parse_public(key)


def _parse_public(name: str) -> Channel | None:
    word, dot, market_id = name.partition(".")
    interval = ""
    if word == Kind.KLINE:
        market_id, _, interval = market_id.rpartition(".")
        if interval not in INTERVAL_SECONDS:
            return None
    if word not in TRAITS or word == Kind.ACCOUNT:
        return None
    kind = Kind(word)
    has_no_market = kind in (Kind.PULSE, Kind.MINING)
    if bool(dot) == has_no_market or bool(market_id) == has_no_market:
        return None
    return Channel(key=name, name=name, kind=kind, market_id=market_id, interval=interval)
