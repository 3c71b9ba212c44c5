"""gateway.stream.hub under random joins, cuts, lag, deliveries and restarts.

A writer publishes on a channel; Redis is ahead of the feed by what was written but not
delivered. Whatever happens, each reader's merged state is that of the publication it has last, and
channels where every publication counts have no hole and no repeat.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stream.channels import FeedId
from gateway.stream.encodings import Encoding
from gateway.stream.publication import Publication
from schemas.views import MARKET
from schemas.wire import Since
from tests.fixtures._hub_reader import Desk, Reader, channel, publication

FEED = FeedId(MARKET, 0)
TRADES, TICKER, KLINE, DEPTH = "trades.A-B", "ticker.A-B", "kline.A-B.1m", "depth.A-B"
KEYS = (TRADES, TICKER, KLINE, DEPTH)
STATES = (TICKER, KLINE)
READERS_MAX = 3
Fields = dict[str, Any]
WRITTEN = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {"a": st.integers(0, 2), "b": st.integers(0, 1), "closed": st.booleans()}
        ),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=3,
)


class Writer:
    """The projection: what each channel published, and what its snapshot would say now."""

    def __init__(self) -> None:
        self.epoch = 0
        self.published: dict[str, list[Publication]] = {key: [] for key in KEYS}
        self.contents: dict[tuple[str, int], Fields] = {}
        self.levels: dict[str, str] = {}
        # The book after each change, by its position.
        self.books: dict[int, dict[str, str]] = {0: {}}

    def offset(self, key: str) -> int:
        published = self.published[key]
        return published[-1].offset if published else 0

    def write(self, key: str, fields: Fields, *, skip: int) -> None:
        offset = self.offset(key) + 1
        if key == DEPTH:
            fields = {name: str(fields[name]) for name in "ab"}
            self.levels |= fields
            fields = {"bids": list(fields.items()), "asks": [], "previous": offset - 1}
            offset += skip
            self.books[offset] = dict(self.levels)
        self.contents[key, offset] = fields
        self.published[key].append(publication(key, offset, fields))

    def snapshot(self, key: str) -> tuple[int, Fields]:
        offset = self.offset(key)
        if key == DEPTH:
            return offset, {"bids": list(self.levels.items()), "asks": []}
        # A view may be newer than the newest publication.
        content = dict(self.contents.get((key, offset), {}))
        return offset, content | {"a": -1} if key in STATES else content


class World:
    """A hub with two readers that have their snapshots; each method is a step."""

    def __init__(self, key: str) -> None:
        self.desk, self.writer, self.key = Desk(), Writer(), key
        self.delivered = 0
        self.readers: list[Reader] = []
        self.desk.hub.restart(FEED, "0")
        for encoding in Encoding:
            self._join(Reader(encoding=encoding), None)
        self.answer()

    def write(self, written: list[tuple[Fields, int]]) -> None:
        for fields, skip in written:
            self.writer.write(self.key, fields, skip=skip)

    def publish(self, written: list[tuple[Fields, int]]) -> None:
        self.write(written)
        self.deliver((len(self.writer.published[self.key]), 0))

    def deliver(self, count_again: tuple[int, int]) -> None:
        """again: publications that the feed brings a second time."""
        count, again = count_again
        published, done = self.writer.published[self.key], self.delivered
        part = published[max(done - again, 0) : done + count]
        if part:
            self.desk.deliver(*part)
            self.delivered = min(done + count, len(published))

    def lose(self, written: list[tuple[Fields, int]]) -> None:
        """The feed has a hole."""
        self.write([*written, *written])
        self.delivered += 1
        self.deliver((len(self.writer.published[self.key]), 0))

    def restart(self, epoch: int) -> None:
        """In the same epoch or another."""
        self.writer.epoch = epoch
        published = self.writer.published[self.key]
        self.desk.hub.restart(FEED, str(epoch), published)
        self.delivered = len(published)

    def lag(self, number: int) -> None:
        self.readers[number % len(self.readers)].lags = True

    def read_on(self, _: None) -> None:
        for reader in self.readers:
            reader.read_on(self.desk.hub)

    def join(self, encoding: Encoding) -> None:
        if len(self.readers) < READERS_MAX:
            self._join(Reader(encoding=encoding), None)

    def reconnect(self, number: int) -> None:
        """With the merged state it has, and the place where it stood."""
        cut = self.readers.pop(number % len(self.readers))
        self.desk.hub.leave(cut, self.key)
        reader = Reader(encoding=cut.encoding)
        epochs = [told["epoch"] for told in cut.received if "epoch" in told]
        since = None
        if epochs:
            reader.states = dict(cut.states)
            since = Since(epoch=epochs[-1], offset=cut.received[-1]["offset"])
        self._join(reader, since)

    def answer(self, _: None = None) -> None:
        asked, self.desk.asked = self.desk.asked, []
        for question in asked:
            self.desk.asked.append(question)
            self.desk.answer(*self.writer.snapshot(self.key), epoch=str(self.writer.epoch))
        self.desk.asked = []

    def _join(self, reader: Reader, since: Since | None) -> None:
        self.readers.append(reader)
        self.desk.hub.join(reader, channel(self.key), since)

    def check(self) -> None:
        for reader in self.readers:
            for number, message in enumerate(reader.received):
                if message["op"] == "pub":
                    self._check_place(reader, number, message)
            if reader.received and reader.received[-1]["op"] == "pub":
                self._check_state(reader, reader.received[-1])

    def _check_place(self, reader: Reader, number: int, message: Fields) -> None:
        if number == 0:
            return
        before = reader.received[number - 1]["offset"]
        if message["ch"] == DEPTH:
            assert message["data"]["previous"] == before
        elif message["ch"] == TRADES:
            assert message["offset"] == before + 1
        else:
            assert message["offset"] > before

    def _check_state(self, reader: Reader, message: Fields) -> None:
        key, offset = message["ch"], message["offset"]
        if key in STATES:
            assert reader.states[key] == self.writer.contents[key, offset]
        elif key == DEPTH:
            book: dict[str, str] = {}
            for told in reader.received:
                bids = dict(map(tuple, told.get("data", {}).get("bids", [])))
                book = bids if told["op"] == "snapshot" else book | bids
            if reader.received[0]["op"] == "snapshot":
                assert book == self.writer.books[offset]
        else:
            assert message["data"] == self.writer.contents[key, offset]


NUMBERS = st.integers(0, READERS_MAX - 1)
STEPS = st.one_of(
    st.tuples(st.just("write"), WRITTEN),
    st.tuples(st.just("publish"), WRITTEN),
    st.tuples(st.just("publish"), WRITTEN),
    st.tuples(st.just("deliver"), st.tuples(st.integers(1, 6), st.integers(0, 2))),
    st.tuples(st.just("answer"), st.none()),
    st.tuples(st.just("answer"), st.none()),
    st.tuples(st.just("lag"), NUMBERS),
    st.tuples(st.just("read_on"), st.none()),
    st.tuples(st.just("reconnect"), NUMBERS),
    st.tuples(st.just("join"), st.sampled_from(Encoding)),
    st.tuples(st.just("lose"), WRITTEN),
    st.tuples(st.just("restart"), st.integers(0, 1)),
)


@pytest.mark.parametrize("key", KEYS)
@given(steps=st.lists(STEPS, min_size=20, max_size=40))
def test_nobody_misses_or_repeats_anything(key: str, steps: list[tuple[str, Any]]) -> None:
    world = World(key)
    for name, argument in steps:
        getattr(world, name)(argument)
        world.check()
