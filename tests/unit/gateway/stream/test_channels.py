"""gateway.stream.channels: which names mean what, and to whom."""

import pytest

from gateway.stream.channels import (
    PRIVATE_KINDS,
    TRAITS,
    Channel,
    FeedId,
    Kind,
    Offsets,
    account_key,
    balance_key,
    parse_key,
    parse_name,
    private_channel,
)
from gateway.views import partition_of_accounts
from schemas.views import ACCOUNTS, MARKET, MINING


def named(name: str, user_id: str | None = None) -> Channel | None:
    return parse_name(name, user_id=user_id, has_market=lambda market_id: market_id == "A-B")


@pytest.mark.parametrize(
    ("name", "kind", "projection"),
    [
        ("pulse", Kind.PULSE, MINING),
        ("mining", Kind.MINING, MINING),
        ("ticker.A-B", Kind.TICKER, MARKET),
        ("trades.A-B", Kind.TRADES, MARKET),
        ("depth.A-B", Kind.DEPTH, MARKET),
        ("kline.A-B.1m", Kind.KLINE, MARKET),
        ("burns.A-B", Kind.BURNS, MARKET),
    ],
)
def test_public_names_are_their_keys(name: str, kind: Kind, projection: str) -> None:
    channel = named(name)
    assert channel is not None
    assert (channel.key, channel.name, channel.kind) == (name, name, kind)
    assert channel.feed == FeedId(projection, 0)
    assert channel.comes_from(channel.feed)
    assert parse_key(name) == channel


@pytest.mark.parametrize(
    "name",
    [
        *("", "pulse.", "pulse.A-B", "ticker", "ticker.", "ticker.C-D", "depth", "dance.A-B"),
        *("kline.A-B", "kline.A-B.2m", "kline..1m", "kline.1m", "account:u", "balance:u"),
        *("account.A-B", "balance."),
    ],
)
def test_other_names_mean_nothing(name: str) -> None:
    assert named(name, "u") is None


def test_private_names_are_of_the_user_who_asks() -> None:
    for kind, key in ((Kind.ACCOUNT, account_key("u")), (Kind.BALANCE, balance_key("u"))):
        assert named(kind) is None
        channel = named(kind, "u")
        assert channel == private_channel(kind, "u") == parse_key(key)
        assert (channel.key, channel.name, channel.user_id) == (key, kind, "u")
    assert {Kind.ACCOUNT, Kind.BALANCE} == PRIVATE_KINDS


def test_an_account_comes_from_its_partition_and_a_balance_from_pulses_too() -> None:
    own = FeedId(ACCOUNTS, partition_of_accounts("u"))
    others = FeedId(ACCOUNTS, (own.partition + 1) % 4)
    account, balance = (private_channel(kind, "u") for kind in (Kind.ACCOUNT, Kind.BALANCE))
    assert (account.feed, balance.feed) == (own, FeedId(MINING, 0))
    assert account.comes_from(own)
    assert balance.comes_from(own)
    assert balance.comes_from(FeedId(MINING, 0))
    assert not account.comes_from(FeedId(MINING, 0))
    assert not account.comes_from(others)
    assert not balance.comes_from(others)


def test_states_may_be_conflated_and_every_single_thing_may_not() -> None:
    newest_wins = {kind for kind, traits in TRAITS.items() if traits.newest_wins}
    every_one = {Kind.TRADES, Kind.BURNS, Kind.ACCOUNT}
    assert newest_wins == set(Kind) - every_one
    changing = {kind for kind, traits in TRAITS.items() if traits.sends_changes}
    assert changing == {Kind.PULSE, Kind.MINING, Kind.TICKER, Kind.KLINE}
    assert TRAITS[Kind.DEPTH].offsets is Offsets.LINKED
