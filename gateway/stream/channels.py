"""Names of channels, and for each kind which feed carries it and how it may be queued.

A channel's key is its name, but for the private ones, which are another channel for every user.
"""

import enum
import functools
from collections.abc import Callable

import msgspec

from gateway.views import partition_of_accounts
from schemas.views import ACCOUNTS, INTERVAL_SECONDS, MARKET, MINING

CHANNELS_REMEMBERED_MAX = 4_096


class Kind(enum.StrEnum):
    PULSE = "pulse"
    MINING = "mining"
    TICKER = "ticker"
    TRADES = "trades"
    DEPTH = "depth"
    KLINE = "kline"
    BURNS = "burns"
    ACCOUNT = "account"
    BALANCE = "balance"


class Offsets(enum.Enum):
    """How a publication's offset follows from the one before.

    COUNTED: 1, 2, 3 … RISING: they may skip. LINKED: they may skip, but each publication names the
    one that it follows.
    """

    COUNTED = enum.auto()
    RISING = enum.auto()
    LINKED = enum.auto()


class KindTraits(msgspec.Struct, frozen=True, kw_only=True):
    """newest_wins: a client that lags may be spared all publications but the newest.

    sends_changes: a publication holds the fields that changed since the one before.
    recovered_max: so many missed publications are worth sending to who comes back; None: any.
    """

    projection: str
    offsets: Offsets = Offsets.COUNTED
    newest_wins: bool = False
    sends_changes: bool = False
    recovered_max: int | None = None


def _state(projection: str, offsets: Offsets = Offsets.COUNTED) -> KindTraits:
    return KindTraits(
        projection=projection,
        offsets=offsets,
        newest_wins=True,
        sends_changes=True,
        recovered_max=64,
    )


TRAITS: dict[Kind, KindTraits] = {
    Kind.PULSE: _state(MINING, Offsets.RISING),
    Kind.MINING: _state(MINING),
    Kind.TICKER: _state(MARKET),
    Kind.TRADES: KindTraits(projection=MARKET),
    Kind.DEPTH: KindTraits(projection=MARKET, offsets=Offsets.LINKED, newest_wins=True),
    # Open candles are a state; closed ones are owed to everybody, so a long gap is worth filling.
    Kind.KLINE: KindTraits(projection=MARKET, newest_wins=True, sends_changes=True),
    Kind.BURNS: KindTraits(projection=MARKET),
    Kind.ACCOUNT: KindTraits(projection=ACCOUNTS, offsets=Offsets.RISING),
    # Made by the gateway from the account at each pulse: its epoch and offset are the pulse's.
    Kind.BALANCE: KindTraits(projection=MINING, offsets=Offsets.RISING, newest_wins=True),
}
PRIVATE_KINDS = frozenset((Kind.ACCOUNT, Kind.BALANCE))


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

    def comes_from(self, feed: FeedId) -> bool:
        """Whether what is sent on the channel depends on this feed."""
        if self.kind is Kind.BALANCE and feed.projection == ACCOUNTS:
            return feed.partition == partition_of_accounts(self.user_id)
        return self.feed == feed


def account_key(user_id: str) -> str:
    return f"{Kind.ACCOUNT}:{user_id}"


def balance_key(user_id: str) -> str:
    return f"{Kind.BALANCE}:{user_id}"


def parse_name(
    name: str, *, user_id: str | None, has_market: Callable[[str], bool]
) -> Channel | None:
    """What a client means by a name; None if there is no such channel (for this user)."""
    if name in PRIVATE_KINDS:
        return private_channel(Kind(name), user_id) if user_id is not None else None
    # Not parse_key: a client must not name another user's account by its key.
    channel = _parse_public(name)
    if channel is None or (channel.market_id and not has_market(channel.market_id)):
        return None
    return channel


def private_channel(kind: Kind, user_id: str) -> Channel:
    """A user's own channel of one of the PRIVATE_KINDS."""
    return Channel(key=f"{kind}:{user_id}", name=kind, kind=kind, user_id=user_id)


@functools.lru_cache(maxsize=CHANNELS_REMEMBERED_MAX)
def parse_key(key: str) -> Channel | None:
    """The channel of a key, which may well name a market that does not exist; None for nonsense."""
    word, colon, user_id = key.partition(":")
    if colon and word in PRIVATE_KINDS:
        return private_channel(Kind(word), user_id)
    return _parse_public(key)


def _parse_public(name: str) -> Channel | None:
    word, dot, market_id = name.partition(".")
    interval = ""
    if word == Kind.KLINE:
        market_id, _, interval = market_id.rpartition(".")
        if interval not in INTERVAL_SECONDS:
            return None
    if word not in TRAITS or word in PRIVATE_KINDS:
        return None
    kind = Kind(word)
    has_no_market = kind in (Kind.PULSE, Kind.MINING)
    if bool(dot) == has_no_market or bool(market_id) == has_no_market:
        return None
    return Channel(key=name, name=name, kind=kind, market_id=market_id, interval=interval)
