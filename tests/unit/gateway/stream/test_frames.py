"""gateway.stream.frames: what is refused, with which code, and how early; what is held."""

import pytest
from websockets.frames import Frame, Opcode

from gateway.stream import frames
from gateway.stream.frames import Close, Event, Fault, FrameParser, Ping, Pong

BYTES_MAX = 100_000
KEY = b"\x11\x22\x33\x44"


def masked(
    opcode: int, payload: bytes = b"", *, is_final: bool = True, head_bits: int = 0
) -> bytes:
    """A client's frame, encoded apart from the code under test."""
    size = len(payload)
    if size < 126:
        sized = bytes([0x80 | size])
    elif size < 1 << 16:
        sized = b"\xfe" + size.to_bytes(2, "big")
    else:
        sized = b"\xff" + size.to_bytes(8, "big")
    hidden = bytes(byte ^ KEY[index % 4] for index, byte in enumerate(payload))
    return bytes([(0x80 if is_final else 0) | head_bits | opcode]) + sized + KEY + hidden


def fed(*pieces: bytes, message_bytes_max: int = BYTES_MAX) -> list[Event]:
    parser = FrameParser(message_bytes_max)
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, BYTES_MAX])
def test_message_of_any_size_is_read_whole_and_byte_by_byte(size: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    sent = masked(frames.BINARY, payload)
    assert fed(sent) == [payload]
    step = max(1, len(sent) // 50)
    pieces = [sent[at : at + step] for at in range(0, len(sent), step)]
    assert fed(*pieces) == [payload]


def test_text_is_str_and_binary_is_bytes() -> None:
    both = masked(frames.TEXT, "é€😀".encode()) + masked(frames.BINARY, b"\xff")
    assert fed(both) == ["é€😀", b"\xff"]


def test_fragments_are_joined_around_control_frames() -> None:
    euro = "€".encode()
    sent = (
        masked(frames.TEXT, euro[:1], is_final=False)
        + masked(frames.PING, b"still there?")
        + masked(frames.CONTINUATION, euro[1:2], is_final=False)
        + masked(frames.PONG, b"")
        + masked(frames.CONTINUATION, euro[2:])
        + masked(frames.BINARY, b"next")
    )
    assert fed(sent) == [Ping(b"still there?"), Pong(b""), "€", b"next"]


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
def test_close_tells_code_and_reason(code: int) -> None:
    payload = code.to_bytes(2, "big") + "fini é".encode()
    assert fed(masked(frames.CLOSE, payload)) == [Close(code, "fini é")]


def test_close_without_a_code_has_none() -> None:
    assert fed(masked(frames.CLOSE)) == [Close(1005, "")]


def test_nothing_follows_a_close() -> None:
    text = masked(frames.TEXT, b"late")
    assert fed(masked(frames.CLOSE) + text, text) == [Close(1005, "")]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(masked(frames.TEXT, head_bits=bit), 1002, id=f"reserved-{bit:02x}")
        for bit in (0x10, 0x20, 0x40)
    ]
    + [
        pytest.param(masked(opcode), 1002, id=f"opcode-{opcode}")
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    ]
    + [
        pytest.param(b"\x81\x01a", 1002, id="unmasked"),
        pytest.param(masked(frames.PING, is_final=False), 1002, id="fragmented-ping"),
        pytest.param(masked(frames.CLOSE, is_final=False), 1002, id="fragmented-close"),
        pytest.param(masked(frames.PING, bytes(126)), 1002, id="long-ping"),
        pytest.param(masked(frames.CLOSE, bytes(70_000)), 1002, id="long-close"),
        pytest.param(masked(frames.CONTINUATION, b"a"), 1002, id="continuation-of-nothing"),
        pytest.param(
            masked(frames.TEXT, b"a", is_final=False) + masked(frames.TEXT, b"b"),
            1002,
            id="message-within-a-message",
        ),
        pytest.param(b"\x82\xfe\x00\x7d" + KEY + bytes(125), 1002, id="16-bits-for-125"),
        pytest.param(b"\x82\xff" + (65_535).to_bytes(8, "big"), 1002, id="64-bits-for-65535"),
        pytest.param(masked(frames.TEXT, b"\xff"), 1007, id="text-not-utf8"),
        pytest.param(masked(frames.TEXT, "€".encode()[:2]), 1007, id="text-cut"),
        pytest.param(masked(frames.TEXT, b"\xed\xa0\x80"), 1007, id="text-surrogate"),
        pytest.param(
            masked(frames.TEXT, b"\xe2", is_final=False) + masked(frames.CONTINUATION, b"("),
            1007,
            id="fragments-not-utf8",
        ),
        pytest.param(masked(frames.CLOSE, b"\x03"), 1002, id="half-a-close-code"),
        pytest.param(masked(frames.CLOSE, b"\x03\xe8\xff"), 1007, id="reason-not-utf8"),
        pytest.param(masked(frames.BINARY, bytes(BYTES_MAX + 1)), 1009, id="too-big"),
    ]
    + [
        pytest.param(masked(frames.CLOSE, code.to_bytes(2, "big")), 1002, id=f"close-{code}")
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2999, 5000, 65_535)
    ],
)
def test_violation_has_its_code_and_is_the_end(sent: bytes, code: int) -> None:
    text = masked(frames.TEXT, b"fine")
    first, fault = fed(text + sent + text, text)
    assert first == "fine"
    assert isinstance(fault, Fault)
    assert fault.code == code
    assert len(fault.reason.encode()) <= 123


def test_oversized_message_is_refused_from_its_header() -> None:
    header = masked(frames.BINARY, bytes(1_001))[:4]
    assert fed(header, message_bytes_max=1_000) == [Fault(1009, "message over 1000 bytes")]
    huge = b"\x82\xff" + b"\xff" * 8
    assert fed(huge, message_bytes_max=1_000) == [Fault(1009, "message over 1000 bytes")]


def test_fragments_are_too_big_together() -> None:
    half = masked(frames.BINARY, bytes(500), is_final=False)
    rest = masked(frames.CONTINUATION, bytes(500), is_final=False)
    parser = FrameParser(1_000)
    assert list(parser.feed(half + rest)) == []
    assert parser.held() == 1_000
    assert list(parser.feed(masked(frames.PING, b"x" * 125))) == [Ping(b"x" * 125)]
    (fault,) = parser.feed(masked(frames.CONTINUATION, b"1")[:2])
    assert fault == Fault(1009, "message over 1000 bytes")
    assert parser.held() == 0


def test_endless_empty_fragments_end() -> None:
    parser = FrameParser(1_000)
    assert list(parser.feed(masked(frames.TEXT, is_final=False))) == []
    empty = masked(frames.CONTINUATION, is_final=False)
    assert list(parser.feed(empty * (frames.FRAGMENTS_MAX - 2))) == []
    assert parser.held() == 0
    (fault,) = parser.feed(empty)
    assert isinstance(fault, Fault)
    assert fault.code == 1009


def test_as_many_fragments_as_may_be_make_a_message() -> None:
    first = masked(frames.TEXT, b"a", is_final=False)
    more = masked(frames.CONTINUATION, b"a", is_final=False) * (frames.FRAGMENTS_MAX - 2)
    last = masked(frames.CONTINUATION, b"a")
    assert fed(first + more + last) == ["a" * frames.FRAGMENTS_MAX]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_are_those_of_the_websockets_library(size: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    expected = Frame(Opcode.BINARY, payload).serialize(mask=False)
    assert frames.frame(frames.BINARY, payload) == expected


def test_close_frame_has_code_and_reason_or_nothing() -> None:
    assert frames.close_frame(4001, "slow") == b"\x88\x06\x0f\xa1slow"
    assert frames.close_frame(1005) == b"\x88\x00"
