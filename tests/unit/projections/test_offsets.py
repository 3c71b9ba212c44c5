"""Offsets of channels: counted for ever, rendered only for an audience."""

from projections.batch import Batch, Publication
from projections.offsets import Offsets

PLACE = (2, "offsets:market")


def test_each_channel_counts_on_from_what_is_stored() -> None:
    offsets, batch = Offsets(PLACE, {"a": b"7"}), Batch()
    for channel in ("a", "b", "a"):
        offsets.publish(batch, channel, channel.encode)
    assert batch.publications == [
        Publication("a", 8, b"a"),
        Publication("b", 1, b"b"),
        Publication("a", 9, b"a"),
    ]


def test_offsets_that_rose_are_written_once() -> None:
    offsets, batch = Offsets(PLACE, {"a": b"7", "c": b"1"}), Batch()
    offsets.publish(batch, "a", bytes)
    offsets.publish(batch, "a", bytes)
    offsets.drain(batch)
    assert batch.fields == {PLACE: {"a": b"9"}}
    offsets.drain(later := Batch())
    assert later.fields == {}


def test_quiet_offsets_rise_without_rendering() -> None:
    offsets, batch = Offsets(PLACE, quiet=True), Batch()
    rendered: list[str] = []

    def render() -> bytes:
        rendered.append("")
        return b""

    offsets.publish(batch, "a", render)
    offsets.drain(batch)
    assert (batch.publications, rendered) == ([], [])
    assert batch.fields == {PLACE: {"a": b"1"}}
