"""gateway.hub: whoever joins, whenever, sees a snapshot and then exactly what follows it."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels import Channel, FeedId, account_key, parse_key
from gateway.history import Publication
from gateway.hub import Hub, SnapshotRead
from schemas.views import ACCOUNTS, MARKET, MINING
from schemas.wire import Since

TRADES = "trades.DUR-CNY"
FEED = FeedId(MARKET, 0)


class Reader:
    """A subscriber that keeps what it was sent."""

    def __init__(self, room: int = 1_000) -> None:
        self.received: list[dict[str, Any]] = []
        self.replace_keys: set[str | None] = set()
        self._room = room

    def push(self, frame: str, replace_key: str | None = None) -> None:
        self.received.append(msgspec.json.decode(frame))
        self.replace_keys.add(replace_key)

    def room(self) -> int:
        return self._room

    def seen(self) -> list[tuple[str, int]]:
        return [(message["op"], message["offset"]) for message in self.received]


class Desk:
    """Keeps what the hub asks for until the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[Channel, int]] = []
        self.hub = Hub(lambda channel, ticket: self.asked.append((channel, ticket)))

    def answer(self, offset: int, epoch: str | None = "e", content: bytes = b"[]") -> bool:
        channel, ticket = self.asked[-1]
        return self.hub.take_snapshot(
            channel.key, ticket, SnapshotRead(epoch=epoch, offset=offset, content=content)
        )

    def deliver(self, *offsets: int, key: str = TRADES, feed: FeedId = FEED) -> None:
        for offset in offsets:
            self.hub.deliver(feed, publication(offset, key))


def publication(offset: int, key: str = TRADES) -> Publication:
    return Publication(key=key, offset=offset, content=b"%d" % offset)


def channel(key: str = TRADES) -> Channel:
    found = parse_key(key)
    assert found is not None
    return found


def desk(*offsets: int) -> Desk:
    made = Desk()
    made.hub.restart(FEED, "e", [publication(offset) for offset in offsets])
    return made


def test_publications_during_the_read_follow_the_snapshot_once() -> None:
    told, reader = desk(1, 2), Reader()
    told.hub.join(reader, channel(), None)
    told.deliver(3, 4, 5)
    assert reader.received == []
    assert told.answer(4)
    told.deliver(6)
    assert reader.seen() == [("snapshot", 4), ("pub", 5), ("pub", 6)]


def test_a_feed_that_is_late_repeats_nothing() -> None:
    told, reader = desk(1), Reader()
    told.hub.join(reader, channel(), None)
    assert told.answer(4)
    told.deliver(2, 3, 4, 5)
    assert reader.seen() == [("snapshot", 4), ("pub", 5)]


def test_joiners_share_one_read() -> None:
    told, first, second = desk(1), Reader(), Reader()
    told.hub.join(first, channel(), None)
    told.deliver(2)
    told.hub.join(second, channel(), None)
    assert len(told.asked) == 1
    assert told.answer(1)
    assert first.seen() == second.seen() == [("snapshot", 1), ("pub", 2)]


def test_a_read_for_somebody_who_left_does_not_serve_the_next() -> None:
    told, first, second = desk(1), Reader(), Reader()
    told.hub.join(first, channel(), None)
    stale = told.asked[-1]
    told.hub.leave(first, TRADES)
    told.deliver(2)
    told.hub.join(second, channel(), None)
    old = SnapshotRead(epoch="e", offset=1, content=b"[]")
    assert told.hub.take_snapshot(stale[0].key, stale[1], old)
    assert second.received == []
    assert told.answer(2)
    assert second.seen() == [("snapshot", 2)]


def test_resume_from_history_needs_no_read() -> None:
    told, reader = desk(1, 2, 3, 4), Reader()
    told.hub.join(reader, channel(), Since(epoch="e", offset=2))
    told.deliver(5)
    assert told.asked == []
    assert reader.seen() == [("pub", 3), ("pub", 4), ("recovered", 4), ("pub", 5)]


def test_resume_at_the_newest_offset_recovers_nothing() -> None:
    told, reader = desk(1, 2), Reader()
    told.hub.join(reader, channel(), Since(epoch="e", offset=2))
    assert reader.seen() == [("recovered", 2)]


def test_resume_needs_a_snapshot_when_the_gap_cannot_be_filled() -> None:
    for since, known in (
        (Since(epoch="other", offset=2), (1, 2)),
        (Since(epoch="e", offset=3), (5, 6)),
        (Since(epoch="e", offset=9), (5, 6)),
        (Since(epoch="e", offset=2), ()),
    ):
        told, reader = desk(*known), Reader()
        told.hub.join(reader, channel(), since)
        assert told.answer(7)
        assert reader.seen() == [("snapshot", 7)]


def test_resume_of_more_than_the_outbox_holds_is_a_snapshot() -> None:
    told, reader = desk(*range(1, 50)), Reader(room=60)
    told.hub.join(reader, channel(), Since(epoch="e", offset=1))
    assert told.answer(49)
    assert reader.seen() == [("snapshot", 49)]


def test_a_snapshot_the_client_already_has_is_not_sent_again() -> None:
    told, reader = desk(), Reader()
    told.hub.join(reader, channel(), Since(epoch="e", offset=7))
    assert told.answer(7)
    assert reader.seen() == [("recovered", 7)]


def test_a_new_epoch_gives_everyone_a_fresh_snapshot() -> None:
    told, live, joining = desk(1), Reader(), Reader()
    told.hub.join(live, channel(), None)
    assert told.answer(1)
    told.hub.join(joining, channel(), None)
    old_ticket = told.asked[-1][1]
    told.hub.restart(FEED, "f", [])
    assert told.asked[-1][1] != old_ticket
    assert not told.answer(1, epoch="e")
    told.deliver(3)
    assert told.answer(2, epoch="f")
    assert live.seen()[1:] == joining.seen() == [("snapshot", 2), ("pub", 3)]
    assert joining.received[0]["epoch"] == "f"


def test_nothing_is_sent_while_redis_is_empty() -> None:
    told, reader = desk(1), Reader()
    told.hub.join(reader, channel(), None)
    told.hub.restart(FEED, None, [])
    assert not told.answer(0, epoch=None)
    assert reader.received == []


def test_a_hole_in_the_feed_is_healed_by_a_snapshot() -> None:
    told, reader = desk(1), Reader()
    told.hub.join(reader, channel(), None)
    assert told.answer(1)
    told.deliver(2, 5)
    assert told.answer(5)
    told.deliver(6)
    assert reader.seen() == [("snapshot", 1), ("pub", 2), ("snapshot", 5), ("pub", 6)]
    late = Reader()
    told.hub.join(late, channel(), Since(epoch="e", offset=2))
    assert told.answer(6)
    assert late.seen() == [("snapshot", 6)]


def test_offsets_of_accounts_and_pulse_may_skip() -> None:
    told = Desk()
    for key, feed, replace in (
        (account_key("u"), channel(account_key("u")).feed, None),
        ("pulse", FeedId(MINING, 0), "pulse"),
    ):
        reader = Reader()
        told.hub.restart(feed, "e", [])
        told.hub.join(reader, channel(key), None)
        assert told.answer(10)
        told.deliver(13, 20, key=key, feed=feed)
        assert reader.seen() == [("snapshot", 10), ("pub", 13), ("pub", 20)]
        assert reader.received[0]["ch"] == key.partition(":")[0]
        assert reader.replace_keys == {None, replace}
    assert channel(account_key("u")).feed.projection == ACCOUNTS


@given(st.lists(st.sampled_from(["deliver", "join", "resume", "answer", "leave"]), max_size=60))
def test_any_order_of_joins_reads_and_deliveries_is_seamless(steps: list[str]) -> None:
    """Redis is ahead of the feed by up to two publications; snapshots tell Redis' state."""
    told, readers, written, delivered = desk(), [Reader()], 0, 0
    for number, step in enumerate(steps):
        reader = readers[-1]
        match step:
            case "deliver":
                written += 1
                if number % 3 == 0:
                    continue
                told.deliver(*range(delivered + 1, written + 1))
                delivered = written
            case "join":
                told.hub.leave(reader, TRADES)
                readers.append(Reader())
                told.hub.join(readers[-1], channel(), None)
            case "resume":
                told.hub.leave(reader, TRADES)
                readers.append(Reader())
                seen = reader.seen()
                since = Since(epoch="e", offset=seen[-1][1]) if seen else None
                told.hub.join(readers[-1], channel(), since)
            case "answer" if told.asked:
                told.answer(written)
            case "leave":
                told.hub.leave(reader, TRADES)
            case _:
                pass
    for reader in readers:
        assert_seamless(reader.seen())


def assert_seamless(seen: list[tuple[str, int]]) -> None:
    last: int | None = None
    for op, offset in seen:
        if op == "pub" and last is not None:
            assert offset == last + 1, seen
        if op == "recovered" and last is not None:
            assert offset == last, seen
        last = offset
