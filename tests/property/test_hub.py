"""gateway.hub under random joins, cuts, lag, deliveries and restarts.

A writer publishes on four kinds of channels; Redis is ahead of the feed by what was written but not
delivered. Whatever happens, each reader's merged state is that of the publication it has last, and
channels where every publication counts have no hole and no repeat.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.channels import FeedId
from gateway.encodings import Encoding
from gateway.publication import Publication
from schemas.views import MARKET
from schemas.wire import Since
from tests.fixtures._hub_reader import Desk, Reader, channel, publication

FEED = FeedId(MARKET, 0)
TRADES, TICKER, KLINE, DEPTH = "trades.A-B", "ticker.A-B", "kline.A-B.1m", "depth.A-B"
KEYS = (TRADES, TICKER, KLINE, DEPTH)
STATES = (TICKER, KLINE)
READERS_MAX = 4
Fields = dict[str, Any]


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


class SeamlessHub(RuleBasedStateMachine):
    """Checks after every step what each reader has been sent."""

    @initialize()
    def begin(self) -> None:
        self.desk, self.writer = Desk(), Writer()
        self.delivered = dict.fromkeys(KEYS, 0)
        self.readers: list[Reader] = []
        self.desk.hub.restart(FEED, "0")

    @rule(
        key=st.sampled_from(KEYS),
        fields=st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
        closed=st.booleans(),
        skip=st.integers(0, 3),
    )
    def write(self, key: str, fields: Fields, closed: bool, skip: int) -> None:
        if key == DEPTH:
            fields = {price: str(quantity) for price, quantity in fields.items()}
        else:
            fields = {"a": 0, "b": 0, "c": 0} | fields | {"closed": closed}
        self.writer.write(key, fields, skip=skip)

    @rule(key=st.sampled_from(KEYS), count=st.integers(1, 4), again=st.integers(0, 2))
    def deliver(self, key: str, count: int, again: int) -> None:
        """again: publications that the feed brings a second time."""
        done = self.delivered[key]
        part = self.writer.published[key][max(done - again, 0) : done + count]
        if part:
            self.desk.deliver(*part)
            self.delivered[key] = min(done + count, len(self.writer.published[key]))

    @rule(key=st.sampled_from(KEYS), lost=st.integers(1, 2))
    def lose(self, key: str, lost: int) -> None:
        """The feed has a hole."""
        ahead = len(self.writer.published[key]) - self.delivered[key]
        self.delivered[key] += min(lost, max(ahead - 1, 0))

    @rule(key=st.sampled_from(KEYS), encoding=st.sampled_from(Encoding))
    def join(self, key: str, encoding: Encoding) -> None:
        if len(self.readers) < READERS_MAX:
            self.readers.append(Reader(encoding=encoding))
            self.desk.hub.join(self.readers[-1], channel(key), None)

    @rule(number=st.integers(0, READERS_MAX - 1))
    def reconnect(self, number: int) -> None:
        """With the merged state it has, and the place where it stood."""
        if number >= len(self.readers) or not self.readers[number].received:
            return
        cut = self.readers[number]
        name = cut.received[-1]["ch"]
        self.desk.hub.leave(cut, name)
        reader = self.readers[number] = Reader(encoding=cut.encoding)
        reader.states = dict(cut.states)
        began = [message for message in cut.received if message["op"] != "pub"]
        epoch = began[-1]["epoch"] if began else "?"
        since = Since(epoch=epoch, offset=cut.received[-1]["offset"])
        self.desk.hub.join(reader, channel(name), since)

    @rule(number=st.integers(0, READERS_MAX - 1))
    def lag(self, number: int) -> None:
        if number < len(self.readers):
            self.readers[number].lags = True

    @rule(number=st.integers(0, READERS_MAX - 1))
    def read_on(self, number: int) -> None:
        if number < len(self.readers):
            self.readers[number].read_on(self.desk.hub)

    @rule()
    def answer(self) -> None:
        asked, self.desk.asked = self.desk.asked, []
        for wanted, ticket in asked:
            self.desk.asked = [(wanted, ticket)]
            self.desk.answer(*self.writer.snapshot(wanted.key), epoch=str(self.writer.epoch))
        self.desk.asked = []

    @rule()
    def restart(self) -> None:
        self.writer.epoch += 1
        known = [each for key in KEYS for each in self.writer.published[key]]
        self.desk.hub.restart(FEED, str(self.writer.epoch), known)
        self.delivered = {key: len(self.writer.published[key]) for key in KEYS}

    @invariant()
    def everyone_has_what_was_published(self) -> None:
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
            # Equal where a closed candle was the newest that could be told anew.
            assert message["offset"] >= before

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


SeamlessHub.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSeamlessHub = SeamlessHub.TestCase
