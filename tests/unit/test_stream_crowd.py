"""The check of tests/e2e/test_resume.py finds what it is there to find."""

import pytest

from ops.stream.client import StreamClient
from tests.fixtures._stream_crowd import Member, Told, Truth

TRADES, DEPTH = "trades.DUR-CNY", "depth.DUR-CNY"


def shown(offset: int, content: str) -> Told:
    return Told(True, "a", offset, content.encode())


def published(offset: int, content: str = "") -> Told:
    return Told(False, "a", offset, (content or f'{{"trade_id":{offset}}}').encode())


def member(channel: str, *told: Told) -> Member:
    found = Member(StreamClient("ws://127.0.0.1:9"), "alice", (channel,))
    found.records[channel] += told
    return found


def findings(channel: str, *told: Told) -> list[str]:
    """What is wrong with a member's records, beside a watcher's that saw 3, 4, 6 and 7."""
    begin = '{"items":[]}' if channel == TRADES else '{"bids":[]}'
    watcher = member(channel, shown(2, begin), *map(published, (3, 4, 6, 7)))
    return Truth([watcher]).findings(member(channel, *told))


def test_the_same_and_a_snapshot_over_a_gap_are_right() -> None:
    begin, end = shown(2, '{"items":[]}'), shown(6, '{"items":[{"trade_id":6}]}')
    assert findings(TRADES, begin, *map(published, (3, 4, 6, 7))) == []
    assert findings(TRADES, begin, published(3), end, published(7)) == []


@pytest.mark.parametrize(
    ("told", "finding"),
    [
        ((published(3), published(6), published(7)), "6 is not what follows"),
        ((published(3), published(3), *map(published, (4, 6, 7))), "3 is not what follows"),
        ((*map(published, (4, 3, 6, 7)),), "4 is not what follows"),
        ((published(3), published(4), published(5), published(6)), "5 was never published"),
        ((published(3, "{}"), *map(published, (4, 6, 7))), "3 has another content"),
        ((published(3), published(4)), "the end is missing"),
    ],
)
def test_what_is_lost_repeated_or_changed_is_found(told: tuple[Told, ...], finding: str) -> None:
    assert f"{TRADES}: {finding}" in findings(TRADES, shown(2, '{"items":[]}'), *told)


def test_a_wrong_snapshot_is_found() -> None:
    other = shown(4, '{"items":[{"trade_id":4,"price":"9"}]}')
    assert "has other trades: [4]" in findings(TRADES, other, published(6), published(7))[0]
    late = shown(4, '{"items":[{"trade_id":3}]}')
    assert "has other trades" in findings(TRADES, late, published(6), published(7))[0]
    state = shown(4, '{"bids":[["1","1"]]}')
    assert findings(DEPTH, state, published(6), published(7)) == [
        f"{DEPTH}: the snapshot of 4 is another state"
    ]


def test_another_last_state_is_found() -> None:
    told = (shown(2, '{"bids":[]}'), *map(published, (3, 4, 6)), published(7, "{}"))
    assert f"{DEPTH}: the last state is another one" in findings(DEPTH, *told)
