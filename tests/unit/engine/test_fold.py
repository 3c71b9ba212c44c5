"""The fold: what the log says, and refusals of a log that contradicts itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import LogCorrupt
from engine.fold import LedgerFold
from engine.hashing import GENESIS_HASH, chain
from engine.ports import Head, LoggedEvent
from schemas.codecs import encode_event
from schemas.streams import stream_id
from tests.unit.domain.scenario import fingerprint
from tests.unit.domain.story import story


def logged() -> list[LoggedEvent]:
    """The stored form of a ledger's first events."""
    happened = story().log
    payloads = [encode_event(event) for event in happened]
    hashes = chain(GENESIS_HASH, payloads)
    return [
        LoggedEvent(position, stream_id(event), payload, digest)
        for position, (event, payload, digest) in enumerate(
            zip(happened, payloads, hashes, strict=True), start=1
        )
    ]


def test_the_fold_of_the_log_is_the_state_that_wrote_it() -> None:
    log, fold = logged(), LedgerFold()
    fold.apply(log)
    assert fingerprint(fold.state) == fingerprint(story().state)
    assert (fold.position, fold.hash) == (len(log), log[-1].hash)
    streams = [event.stream_id for event in log]
    assert fold.versions == {stream: streams.count(stream) for stream in streams}
    fold.require_end(Head(1, len(log), log[-1].hash))


@given(st.data())
def test_it_may_be_folded_in_any_pieces(data: st.DataObject) -> None:
    log, whole, pieces = logged(), LedgerFold(), LedgerFold()
    whole.apply(log)
    at = 0
    while at < len(log):
        size = data.draw(st.integers(1, len(log)))
        pieces.apply(log[at : at + size])
        at += size
    assert fingerprint(pieces.state) == fingerprint(whole.state)
    assert (pieces.position, pieces.hash, pieces.versions) == (
        whole.position,
        whole.hash,
        whole.versions,
    )


def test_a_hole_a_repetition_and_another_hash_are_refused() -> None:
    log = logged()
    for bad in ([*log[:3], *log[4:]], [*log[:3], log[2]], [*log[:3], log[3]._replace(hash=b"x")]):
        fold = LedgerFold()
        with pytest.raises(LogCorrupt) as corrupt:
            fold.apply(bad)
        assert fold.position == 3
        assert corrupt.value.position in (3, 4)


@pytest.mark.parametrize("head", [Head(1, 2, b"h"), Head(1, 0, b"h")])
def test_an_end_elsewhere_than_the_head_is_refused(head: Head) -> None:
    with pytest.raises(LogCorrupt, match="does not end where its head says"):
        LedgerFold().require_end(head)
