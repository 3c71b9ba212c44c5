"""gateway.stream.frames against websockets: valid, mutated and random streams, cut anywhere.

The library is the oracle. Two of its differences are meant, and told apart below: it accepts sizes
that are not minimal, and refuses a Close within a message that is still to be continued.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.utils import apply_mask

from gateway.stream import frames
from gateway.stream.frames import Close, Event, Fault, FrameParser, Ping, Pong

# Whole streams stay below it, so that only a mutated size is too big.
BYTES_MAX = 1_000
HELD_MAX = BYTES_MAX + 14 + frames.CONTROL_BYTES_MAX + 6
# Ends whatever frame a stream ends within, and what follows breaks the protocol.
PADDING = bytes(BYTES_MAX + 20)

texts = st.text(max_size=40).map(str.encode)
payloads = st.one_of(st.binary(max_size=130), texts)
control_payloads = st.binary(max_size=frames.CONTROL_BYTES_MAX)
close_payloads = st.one_of(
    st.just(b""),
    st.builds(
        lambda code, reason: code.to_bytes(2, "big") + reason,
        st.one_of(st.integers(990, 1020), st.integers(0, 65_535), st.just(1000)),
        st.one_of(texts.map(lambda text: text[:120]), st.binary(max_size=20)),
    ),
)
any_frames = st.one_of(
    st.builds(Frame, st.sampled_from((Opcode.TEXT, Opcode.BINARY)), payloads, st.booleans()),
    st.builds(Frame, st.just(Opcode.TEXT), texts),
    st.builds(Frame, st.just(Opcode.CONT), payloads, st.booleans()),
    st.builds(Frame, st.sampled_from((Opcode.PING, Opcode.PONG)), control_payloads),
    st.builds(Frame, st.just(Opcode.CLOSE), close_payloads),
)


@st.composite
def messages(draw: st.DrawFn) -> list[Frame]:
    """One message in fragments, control frames between them."""
    opcode = draw(st.sampled_from((Opcode.TEXT, Opcode.BINARY)))
    payload = draw(texts if opcode is Opcode.TEXT else payloads)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    starts, ends = [0, *cuts], [*cuts, len(payload)]
    made: list[Frame] = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if number and draw(st.booleans()):
            made.append(Frame(draw(st.sampled_from((Opcode.PING, Opcode.PONG))), b"between"))
        kind = Opcode.CONT if number else opcode
        made.append(Frame(kind, payload[start:end], number == len(cuts)))
    return made


def of_client(frame: Frame, key: bytes) -> bytes:
    """Masked with a key that Hypothesis knows."""
    plain = frame.serialize(mask=False)
    head = bytearray(plain[: len(plain) - len(frame.data)])
    head[1] |= 0x80
    return bytes(head) + key + apply_mask(frame.data, key)


keys = st.binary(min_size=4, max_size=4)
streams = st.one_of(
    st.lists(messages(), max_size=3).map(lambda parts: [one for part in parts for one in part]),
    st.lists(any_frames, max_size=6),
).flatmap(lambda made: st.tuples(st.just(made), keys))
valid_streams = streams.map(lambda drawn: b"".join(of_client(each, drawn[1]) for each in drawn[0]))


@st.composite
def mutated_streams(draw: st.DrawFn) -> bytes:
    stream = bytearray(draw(valid_streams))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(stream)))
        mutation = draw(st.sampled_from(("flip", "insert", "delete", "repeat")))
        if mutation == "insert":
            stream[at:at] = draw(st.binary(min_size=1, max_size=4))
        elif mutation == "delete":
            del stream[at : at + draw(st.integers(1, 9))]
        elif mutation == "repeat":
            stream[at:at] = stream[at : at + draw(st.integers(1, 9))]
        elif at < len(stream):
            stream[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(stream)


def oracle(stream: bytes) -> list[Event]:
    protocol = ServerProtocol(state=State.OPEN, max_size=BYTES_MAX)
    protocol.receive_data(stream)
    found: list[Event] = []
    joined, kind = b"", Opcode.CONT
    for each in protocol.events_received():
        assert isinstance(each, Frame)
        payload = bytes(each.data)
        if each.opcode is Opcode.PING:
            found.append(Ping(payload))
        elif each.opcode is Opcode.PONG:
            found.append(Pong(payload))
        elif each.opcode is not Opcode.CLOSE:
            joined, kind = (
                (joined + payload, kind) if each.opcode is Opcode.CONT else (payload, each.opcode)
            )
            if each.fin:
                try:
                    found.append(joined.decode() if kind is Opcode.TEXT else joined)
                except UnicodeDecodeError:
                    return [*found, Fault(frames.NOT_UTF8, "")]
    return [*found, *_end(protocol)]


def _end(protocol: ServerProtocol) -> list[Event]:
    if protocol.close_rcvd is not None:
        return [Close(int(protocol.close_rcvd.code), protocol.close_rcvd.reason)]
    if protocol.parser_exc is not None:
        assert protocol.close_sent is not None
        return [Fault(int(protocol.close_sent.code), "")]
    return []


def parsed(stream: bytes) -> list[Event]:
    return list(FrameParser(BYTES_MAX).feed(stream))


def assert_agreed(ours: list[Event], theirs: list[Event]) -> None:
    """The same but for reasons; of several violations in one frame we name the first."""
    last = ours[-1] if ours else None
    if not isinstance(last, Fault):
        assert ours == theirs
        return
    assert ours[:-1] == theirs[: len(ours) - 1]
    if last.reason == "size is not minimal":
        return
    assert len(theirs) == len(ours)
    end = theirs[-1]
    assert isinstance(end, Fault)
    many = {(frames.PROTOCOL_ERROR, frames.TOO_BIG), (frames.PROTOCOL_ERROR, frames.NOT_UTF8)}
    assert last.code == end.code or (last.code, end.code) in many


@given(st.lists(messages(), max_size=3), keys)
def test_every_valid_message_is_read(parts: list[list[Frame]], key: bytes) -> None:
    made = [one for part in parts for one in part]
    stream = b"".join(of_client(each, key) for each in made)
    ours = parsed(stream)
    assert ours == oracle(stream)
    assert not any(isinstance(each, Fault) for each in ours)
    assert sum(isinstance(each, str | bytes) for each in ours) == len(parts)


@given(st.one_of(valid_streams, mutated_streams(), st.binary(max_size=200)))
def test_agrees_with_the_oracle(stream: bytes) -> None:
    assert_agreed(parsed(stream + PADDING), oracle(stream + PADDING))


@given(st.one_of(valid_streams, mutated_streams()), st.data())
def test_cuts_change_nothing_and_little_is_held(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    parser, events = FrameParser(BYTES_MAX), list[Event]()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        events += parser.feed(stream[start:end])
        assert parser.held() <= HELD_MAX
    assert events == parsed(stream)


@given(st.lists(st.binary(max_size=64), max_size=20))
def test_random_bytes_raise_nothing_and_end_once(pieces: list[bytes]) -> None:
    parser, events = FrameParser(BYTES_MAX), list[Event]()
    for piece in pieces:
        events += parser.feed(piece)
        assert parser.held() <= HELD_MAX
    ends = [number for number, each in enumerate(events) if isinstance(each, Close | Fault)]
    assert ends in ([], [len(events) - 1])


@pytest.mark.parametrize("size", [125, 126, 999, 1_000])
def test_oracle_knows_the_same_limit(size: int) -> None:
    stream = of_client(Frame(Opcode.BINARY, bytes(size)), b"abcd")
    assert parsed(stream) == oracle(stream) == [bytes(size)]
    over = of_client(Frame(Opcode.BINARY, bytes(BYTES_MAX + 1)), b"abcd")
    assert_agreed(parsed(over), oracle(over))
