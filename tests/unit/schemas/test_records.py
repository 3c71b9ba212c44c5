"""Headers of a Kafka record: written, read back, and refused when they are not ours."""

import pytest

from schemas.records import RecordError, RecordHead, read_head


@pytest.mark.parametrize(
    ("head", "headers"),
    [
        (
            RecordHead(first=1, last=500, sequence=1, hash="ab01"),
            [("first", b"1"), ("last", b"500"), ("sequence", b"1"), ("hash", b"ab01")],
        ),
        (
            RecordHead(first=1 << 62, last=1 << 62, sequence=9),
            [("first", b"%d" % (1 << 62)), ("last", b"%d" % (1 << 62)), ("sequence", b"9")],
        ),
    ],
)
def test_head_travels_as_ascii_headers(head: RecordHead, headers: list[tuple[str, bytes]]) -> None:
    assert head.headers() == headers
    assert read_head(headers) == head
    assert read_head([*headers, ("traceparent", b"\xff")]) == head


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("first", b"1"), ("last", b"2")],
        [("first", b"1"), ("last", b"x"), ("sequence", b"1")],
        [("first", b"1"), ("last", b""), ("sequence", b"1")],
        [("first", b"1"), ("last", b"2"), ("sequence", b"1"), ("hash", b"\xff")],
    ],
)
def test_record_of_somebody_else_is_refused(headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(RecordError, match="not a ledger record"):
        read_head(headers)
