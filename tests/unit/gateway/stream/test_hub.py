"""gateway.stream.hub: whoever joins, whenever, sees a snapshot and then exactly what follows it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stream import hub as hub_module
from gateway.stream.channels import FeedId, Kind, account_key, balance_key
from gateway.stream.encodings import Encoding
from gateway.stream.publication import Publication
from schemas.views import ACCOUNTS, MARKET, MINING
from schemas.wire import Since
from tests.fixtures._hub_reader import Desk, Reader, channel, publication

TRADES = "trades.DUR-CNY"
TICKER = "ticker.DUR-CNY"
DEPTH = "depth.DUR-CNY"
KLINE = "kline.DUR-CNY.1m"
FEED = FeedId(MARKET, 0)


def trades(*offsets: int) -> list[Publication]:
    return [publication(TRADES, offset, {"trade_id": offset}) for offset in offsets]


def ticker(offset: int, **fields: object) -> Publication:
    return publication(TICKER, offset, {"market": "DUR-CNY", **fields})


def depth(offset: int, previous: int) -> Publication:
    return publication(DEPTH, offset, {"bids": [], "asks": [], "previous": previous})


def candle(offset: int, *, closed: bool, trade_count: int) -> Publication:
    content = {"open_time": 60_000, "trade_count": trade_count, "closed": closed}
    return publication(KLINE, offset, content)


def desk(*known: Publication, feed: FeedId = FEED) -> Desk:
    made = Desk()
    made.hub.restart(feed, "e", known)
    return made


def test_publications_during_the_read_follow_the_snapshot_once() -> None:
    told, reader = desk(*trades(1, 2)), Reader()
    told.hub.join(reader, channel(TRADES), None)
    told.deliver(*trades(3, 4))
    told.deliver(*trades(5))
    assert reader.received == []
    assert told.answer(4)
    told.deliver(*trades(6))
    assert reader.seen() == [("snapshot", 4), ("pub", 5), ("pub", 6)]


def test_a_feed_that_is_late_repeats_nothing() -> None:
    told, reader = desk(*trades(1)), Reader()
    told.hub.join(reader, channel(TRADES), None)
    assert told.answer(4)
    told.deliver(*trades(2, 3))
    told.deliver(*trades(4, 5, 6))
    told.deliver(*trades(6, 7))
    assert reader.seen() == [("snapshot", 4), ("pub", 5), ("pub", 6), ("pub", 7)]


def test_joiners_share_one_read() -> None:
    told, first, second = desk(*trades(1)), Reader(), Reader(encoding=Encoding.MSGPACK)
    told.hub.join(first, channel(TRADES), None)
    told.deliver(*trades(2))
    told.hub.join(second, channel(TRADES), None)
    assert len(told.asked) == 1
    assert told.answer(1, {"items": []})
    assert first.received == second.received
    assert (told.hub.recovered, told.hub.snapshots) == (0, 2)
    assert second.seen() == [("snapshot", 1), ("pub", 2)]


def test_a_read_for_somebody_who_left_does_not_serve_the_next() -> None:
    told, first, second = desk(*trades(1)), Reader(), Reader()
    told.hub.join(first, channel(TRADES), None)
    (_, ticket) = told.asked[-1]
    told.hub.leave(first, TRADES)
    assert not told.hub.is_awaited(TRADES, ticket)
    told.deliver(*trades(2))
    told.hub.join(second, channel(TRADES), None)
    old = hub_module.SnapshotRead(epoch="e", offset=1, content=b"[]")
    assert told.hub.take_snapshot(TRADES, ticket, old)
    assert second.received == []
    assert told.answer(2)
    assert second.seen() == [("snapshot", 2)]


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_read_that_nobody_awaits_any_more_keeps_nobody_waiting(comes_back: bool) -> None:
    """Others stay on the channel meanwhile, so that it is not forgotten with its read."""
    told, stays, leaves, late = desk(*trades(1)), Reader(), Reader(), Reader()
    told.hub.join(stays, channel(TRADES), None)
    assert told.answer(1)
    told.deliver(*trades(2))
    told.hub.join(leaves, channel(TRADES), None)
    (_, ticket) = told.asked[-1]
    if comes_back:
        told.hub.join(leaves, channel(TRADES), Since(epoch="e", offset=2))
    else:
        told.hub.leave(leaves, TRADES)
    assert not told.hub.is_awaited(TRADES, ticket)
    told.hub.join(late, channel(TRADES), None)
    assert told.answer(2)
    assert late.seen() == [("snapshot", 2)]


def test_resume_from_history_needs_no_read() -> None:
    told, reader = desk(*trades(1, 2, 3, 4)), Reader()
    told.hub.join(reader, channel(TRADES), Since(epoch="e", offset=2))
    told.deliver(*trades(5))
    assert told.asked == []
    assert reader.seen() == [("pub", 3), ("pub", 4), ("recovered", 4), ("pub", 5)]
    assert (told.hub.recovered, told.hub.snapshots) == (1, 0)


def test_resume_at_the_newest_offset_recovers_nothing() -> None:
    told, reader = desk(*trades(1, 2)), Reader()
    told.hub.join(reader, channel(TRADES), Since(epoch="e", offset=2))
    assert reader.seen() == [("recovered", 2)]


def test_resume_needs_a_snapshot_when_the_gap_cannot_be_filled() -> None:
    for since, known in (
        (Since(epoch="other", offset=2), (1, 2)),
        (Since(epoch="e", offset=3), (5, 6)),
        (Since(epoch="e", offset=9), (5, 6)),
        (Since(epoch="e", offset=2), ()),
    ):
        told, reader = desk(*trades(*known)), Reader()
        told.hub.join(reader, channel(TRADES), since)
        assert told.answer(7)
        assert reader.seen() == [("snapshot", 7)]


def test_resume_of_more_than_half_the_room_is_a_snapshot() -> None:
    told, reader = desk(*trades(*range(1, 50))), Reader(room=2_000)
    told.hub.join(reader, channel(TRADES), Since(epoch="e", offset=1))
    assert told.answer(49)
    assert reader.seen() == [("snapshot", 49)]


@pytest.mark.parametrize(("missed", "ops"), [(64, ["pub"] * 64 + ["recovered"]), (65, [])])
def test_a_state_that_changed_too_often_since_is_told_as_a_snapshot(
    missed: int, ops: list[str]
) -> None:
    told, reader = desk(*[ticker(n, last=str(n)) for n in range(1, missed + 2)]), Reader()
    told.hub.join(reader, channel(TICKER), Since(epoch="e", offset=1))
    assert [op for op, _ in reader.seen()] == ops
    assert len(told.asked) == (0 if ops else 1)


def test_a_snapshot_the_client_already_has_is_not_sent_again() -> None:
    told, reader = desk(), Reader()
    told.hub.join(reader, channel(TRADES), Since(epoch="e", offset=7))
    assert told.answer(7)
    assert reader.seen() == [("recovered", 7)]


def test_a_new_epoch_gives_everyone_a_fresh_snapshot() -> None:
    told, live, joining = desk(*trades(1)), Reader(), Reader()
    told.hub.join(live, channel(TRADES), None)
    assert told.answer(1)
    told.hub.join(joining, channel(TRADES), None)
    old_ticket = told.asked[-1][1]
    told.hub.restart(FEED, "f", [])
    assert told.asked[-1][1] != old_ticket
    assert not told.answer(1, epoch="e")
    told.deliver(*trades(3))
    assert told.answer(2, epoch="f")
    assert live.seen()[1:] == joining.seen() == [("snapshot", 2), ("pub", 3)]
    assert joining.received[0]["epoch"] == "f"


def test_nothing_is_sent_while_redis_is_empty() -> None:
    told, reader = desk(*trades(1)), Reader()
    told.hub.join(reader, channel(TRADES), None)
    told.hub.restart(FEED, None, [])
    assert not told.answer(0, epoch=None)
    assert reader.received == []


def test_a_hole_in_the_feed_is_healed_by_a_snapshot() -> None:
    told, reader = desk(*trades(1)), Reader()
    told.hub.join(reader, channel(TRADES), None)
    assert told.answer(1)
    told.deliver(*trades(2))
    told.deliver(*trades(5))
    assert told.answer(5)
    told.deliver(*trades(6))
    assert reader.seen() == [("snapshot", 1), ("pub", 2), ("snapshot", 5), ("pub", 6)]
    late = Reader()
    told.hub.join(late, channel(TRADES), Since(epoch="e", offset=2))
    assert told.answer(6)
    assert late.seen() == [("snapshot", 6)]


def test_a_hole_right_behind_the_snapshot_is_healed_by_another() -> None:
    told, reader = desk(), Reader()
    told.hub.join(reader, channel(TRADES), None)
    assert told.answer(4)
    told.deliver(*trades(6))
    assert told.answer(6)
    assert reader.seen() == [("snapshot", 4), ("snapshot", 6)]


def test_what_is_held_for_a_snapshot_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "HISTORY_MAX", 3)
    told, reader = desk(), Reader()
    told.hub.join(reader, channel(TRADES), None)
    told.deliver(*trades(1, 2, 3))
    assert len(told.asked) == 1
    told.deliver(*trades(4))
    assert len(told.asked) == 2
    told.deliver(*trades(5))
    assert told.answer(4)
    assert reader.seen() == [("snapshot", 4), ("pub", 5)]


def test_offsets_of_private_channels_and_pulse_may_skip() -> None:
    told = Desk()
    for key, feed in (
        (account_key("u"), channel(account_key("u")).feed),
        (balance_key("u"), FeedId(MINING, 0)),
        ("pulse", FeedId(MINING, 0)),
    ):
        reader = Reader()
        told.hub.restart(feed, "e", [])
        told.hub.join(reader, channel(key), None)
        assert told.answer(10, {})
        told.deliver(publication(key, 13, {"index": "1"}), feed=feed)
        told.deliver(publication(key, 20, {"index": "2"}), feed=feed)
        assert reader.seen() == [("snapshot", 10), ("pub", 13), ("pub", 20)]
        assert reader.received[0]["ch"] == key.partition(":")[0]
    assert channel(account_key("u")).feed.projection == ACCOUNTS


def test_a_balance_starts_over_with_its_accounts_feed() -> None:
    told, reader, key = desk(feed=FeedId(MINING, 0)), Reader(), balance_key("u")
    told.hub.join(reader, channel(key), None)
    assert told.answer(10, {})
    told.hub.restart(channel(account_key("u")).feed, "other", [])
    assert told.answer(11, {})
    assert reader.seen() == [("snapshot", 10), ("snapshot", 11)]


def test_a_state_is_told_whole_first_and_then_by_what_changed() -> None:
    told, reader = desk(ticker(4, last="0", high="9")), Reader()
    told.hub.join(reader, channel(TICKER), None)
    assert told.answer(4, {"market": "DUR-CNY", "last": "0", "high": "9"})
    told.deliver(ticker(5, last="1", high="9"), ticker(6, last="2", high="9"))
    told.deliver(ticker(7, last="2", high="9"))
    told.deliver(ticker(8, last="1", high="10"))
    whole = {"market": "DUR-CNY", "last": "1", "high": "9"}
    assert reader.told() == [whole, {"last": "2"}, {}, {"last": "1", "high": "10"}]


def test_a_state_that_was_held_for_the_snapshot_begins_whole() -> None:
    told, reader = desk(ticker(4, last="0", high="9")), Reader()
    told.hub.join(reader, channel(TICKER), None)
    told.deliver(ticker(5, last="1", high="9"))
    told.deliver(ticker(6, last="2", high="9"))
    assert told.answer(4, {"market": "DUR-CNY", "last": "0", "high": "9"})
    assert reader.told()[0] == {"market": "DUR-CNY", "last": "1", "high": "9"}
    assert reader.told()[1] == {"last": "2"}


def test_a_state_resumed_begins_whole() -> None:
    """The snapshot it may have had before the cut can be newer than the publication it names."""
    told = desk(*[ticker(n, last=str(n), high="9") for n in (1, 2, 3)])
    behind, current = Reader(), Reader()
    told.hub.join(behind, channel(TICKER), Since(epoch="e", offset=1))
    told.hub.join(current, channel(TICKER), Since(epoch="e", offset=3))
    told.deliver(ticker(4, last="4", high="9"))
    assert [len(content) for content in behind.told()] == [3, 1, 3]
    assert [len(content) for content in current.told()] == [3]


def test_who_lags_is_given_the_newest_state_when_it_reads_on() -> None:
    told, reader = desk(), Reader()
    told.hub.join(reader, channel(TICKER), None)
    assert told.answer(0)
    told.deliver(ticker(1, last="1", high="9"))
    reader.lags = True
    told.deliver(ticker(2, last="2", high="9"))
    told.deliver(ticker(3, last="3", high="9"))
    assert reader.seen() == [("snapshot", 0), ("pub", 1)]
    reader.read_on(told.hub)
    told.deliver(ticker(4, last="4", high="9"))
    assert reader.seen()[2:] == [("pub", 3), ("pub", 4)]
    assert reader.told()[-2:] == [{"market": "DUR-CNY", "last": "3", "high": "9"}, {"last": "4"}]


def test_who_lags_on_depth_is_given_a_snapshot_when_it_reads_on() -> None:
    told, slow, quick = desk(), Reader(), Reader()
    for reader in (slow, quick):
        told.hub.join(reader, channel(DEPTH), None)
    assert told.answer(10)
    slow.lags = True
    told.deliver(depth(12, 10))
    slow.lags = False
    told.deliver(depth(15, 12))
    slow.read_on(told.hub)
    told.deliver(depth(16, 15))
    assert told.answer(15)
    told.deliver(depth(19, 16))
    assert slow.seen() == [("snapshot", 10), ("snapshot", 15), ("pub", 16), ("pub", 19)]
    assert [offset for _, offset in quick.seen()] == [10, 12, 15, 16, 19]


def test_a_hole_in_depth_is_seen_by_what_the_publication_follows() -> None:
    told, reader = desk(depth(10, 0)), Reader()
    told.hub.join(reader, channel(DEPTH), Since(epoch="e", offset=10))
    told.deliver(depth(14, 10))
    told.deliver(depth(20, 17))
    assert told.answer(20)
    assert reader.seen() == [("recovered", 10), ("pub", 14), ("snapshot", 20)]


def test_closed_candles_reach_even_who_lags() -> None:
    told, reader = desk(), Reader()
    told.hub.join(reader, channel(KLINE), None)
    assert told.answer(0)
    reader.lags = True
    told.deliver(
        candle(1, closed=False, trade_count=1),
        candle(2, closed=True, trade_count=2),
        candle(3, closed=False, trade_count=3),
    )
    told.deliver(candle(4, closed=False, trade_count=4))
    assert reader.told() == [{"open_time": 60_000, "trade_count": 2, "closed": True}]
    reader.read_on(told.hub)
    assert reader.seen()[-1] == ("pub", 4)


def test_a_closed_candle_that_is_the_newest_is_not_told_twice() -> None:
    told, reader = desk(), Reader()
    told.hub.join(reader, channel(KLINE), None)
    assert told.answer(0)
    told.deliver(candle(1, closed=False, trade_count=1))
    reader.lags = True
    told.deliver(candle(2, closed=False, trade_count=2), candle(3, closed=True, trade_count=2))
    reader.read_on(told.hub)
    told.deliver(candle(4, closed=False, trade_count=2))
    assert [offset for _, offset in reader.seen()] == [0, 1, 3, 4]
    assert reader.told()[-1] == {"closed": False}


def test_a_refresh_of_what_is_not_read_any_more_says_nothing() -> None:
    told, reader = desk(), Reader()
    told.hub.refresh(reader, TICKER)
    told.hub.join(reader, channel(TICKER), None)
    told.hub.refresh(reader, TICKER)
    assert told.answer(3)
    told.hub.refresh(reader, TICKER)
    assert reader.seen() == [("snapshot", 3)]


def test_subscriptions_are_counted_by_kind() -> None:
    told, first, second = desk(*trades(1)), Reader(), Reader()
    told.hub.join(first, channel(TRADES), Since(epoch="e", offset=1))
    told.hub.join(second, channel(TRADES), None)
    told.hub.join(second, channel(KLINE), None)
    counted = told.hub.subscriptions()
    assert (counted[Kind.TRADES], counted[Kind.KLINE], counted[Kind.PULSE]) == (2, 1, 0)
    told.hub.leave(second, TRADES)
    told.hub.leave(second, KLINE)
    assert told.hub.has_audience(TRADES)
    assert not told.hub.has_audience(KLINE)
    assert told.hub.subscriptions()[Kind.TRADES] == 1


@given(st.lists(st.sampled_from(["deliver", "join", "resume", "answer", "leave"]), max_size=60))
def test_any_order_of_joins_reads_and_deliveries_is_seamless(steps: list[str]) -> None:
    """Redis is ahead of the feed by up to two publications; snapshots tell Redis' state."""
    told, readers, written, delivered = desk(*trades(1)), [Reader()], 1, 1
    for number, step in enumerate(steps):
        reader = readers[-1]
        match step:
            case "deliver":
                written += 1
                if number % 3 == 0:
                    continue
                told.deliver(*trades(*range(delivered + 1, written + 1)))
                delivered = written
            case "join" | "resume":
                told.hub.leave(reader, TRADES)
                seen: list[Any] = reader.seen() if step == "resume" else []
                readers.append(Reader())
                since = Since(epoch="e", offset=seen[-1][1]) if seen else None
                told.hub.join(readers[-1], channel(TRADES), since)
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
