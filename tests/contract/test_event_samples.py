"""One recorded payload per event type and version, kept for ever: they must read and write alike.

A sample is the stored bytes of one event in samples/<type>.v<version>[.<variant>].json, made by the
first release that wrote it. It is never edited: a field may be added at the end, with a default;
any other change is a new version with a sample of its own.
"""

from pathlib import Path

import pytest

from schemas.codecs import decode_event, encode_event, topic_of
from schemas.events import EVENT_TYPES

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.json"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_sample_reads_as_a_current_event(sample: Path) -> None:
    event = decode_event(sample.read_bytes())
    kind, version, *_ = sample.stem.replace(".v", ".").split(".")
    assert event.__struct_config__.tag == kind
    if topic_of(event) == f"{kind}:{version}":
        unclosed = sample.read_bytes().removesuffix(b"}")
        assert encode_event(event).startswith(unclosed)


def test_every_current_event_has_a_sample_of_its_version() -> None:
    current = {topic_of(decode_event(sample.read_bytes())) for sample in SAMPLES}
    named = {f"{kind.__struct_config__.tag}:1" for kind in EVENT_TYPES}
    assert current == named
