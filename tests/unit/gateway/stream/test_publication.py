"""gateway.stream.publication: frames made once, states told by what changed."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stream.encodings import Encoding
from gateway.stream.history import History
from gateway.stream.publication import Bundle, Publication
from tests.fixtures._hub_reader import messages, publication

PULSE = {"second": 7, "index": "10", "reward": "1", "weight_total": "3", "prices": {"A-B": "1"}}
ENCODINGS = pytest.mark.parametrize("encoding", list(Encoding))


def followed(key: str, *contents: dict[str, Any]) -> list[Publication]:
    """Publications as they come out of the history, the first with offset 7."""
    made = [publication(key, 7 + n, content) for n, content in enumerate(contents)]
    fresh, _ = History().admit(key, made)
    return list(fresh)


def said(frames: bytes, encoding: Encoding = Encoding.JSON) -> list[Any]:
    return [message["data"] for message in messages(frames, encoding)]


@ENCODINGS
def test_a_pulse_says_what_changed_and_leaves_its_second_to_the_offset(encoding: Encoding) -> None:
    after = PULSE | {"second": 8, "index": "11", "prices": {"A-B": "1", "C-B": "5"}}
    first, second = followed("pulse", PULSE, after)
    (message,) = messages(second.frame(encoding), encoding)
    changed = {"index": "11", "prices": {"C-B": "5"}}
    assert message == {"op": "pub", "ch": "pulse", "offset": 8, "data": changed}
    assert said(first.frame(encoding), encoding) == [PULSE]
    assert said(second.whole(encoding), encoding) == [after]


def test_prices_that_did_not_change_are_not_mentioned() -> None:
    _, second = followed("pulse", PULSE, PULSE | {"second": 8, "index": "11"})
    assert said(second.frame(Encoding.JSON)) == [{"index": "11"}]


def test_a_first_price_is_told_with_its_map() -> None:
    before = {name: value for name, value in PULSE.items() if name != "prices"}
    _, second = followed("pulse", before, PULSE)
    assert said(second.frame(Encoding.JSON)) == [{"prices": {"A-B": "1"}}]


def test_an_event_is_told_as_it_is() -> None:
    first, second = followed("trades.A-B", {"price": "1", "n": 1}, {"price": "1", "n": 2})
    assert first.changes is second.changes is None
    assert said(second.frame(Encoding.JSON)) == [{"price": "1", "n": 2}]


def test_frames_are_made_once() -> None:
    (one,) = followed("trades.A-B", {"price": "1"})
    bundle = Bundle([one])
    assert one.frame(Encoding.JSON) is one.frame(Encoding.JSON) is one.whole(Encoding.JSON)
    assert bundle.frames(Encoding.JSON) is bundle.frames(Encoding.JSON) is one.frame(Encoding.JSON)
    assert one.frame(Encoding.MSGPACK) != one.frame(Encoding.JSON)


def test_a_publication_is_as_documented_byte_by_byte() -> None:
    (one,) = followed("trades.A-B", {"price": "1"})
    text = b'{"op":"pub","ch":"trades.A-B","offset":7,"data":{"price":"1"}}'
    assert one.frame(Encoding.JSON)[2:] == text


@ENCODINGS
def test_a_bundle_is_all_of_them_and_whole_means_the_first(encoding: Encoding) -> None:
    states = [{"last": str(n), "high": "9"} for n in range(3)]
    first, second, third = followed("ticker.A-B", *states)
    bundle = Bundle([second, third])
    assert (bundle.key, bundle.newest_wins) == ("ticker.A-B", True)
    assert said(bundle.frames(encoding), encoding) == [{"last": "1"}, {"last": "2"}]
    assert said(bundle.whole(encoding), encoding) == [states[1], {"last": "2"}]
    assert bundle.kept(encoding) == b""
    assert not Bundle(followed("trades.A-B", {})).newest_wins
    assert first.offset == 7


@ENCODINGS
def test_closed_candles_are_kept_whole(encoding: Encoding) -> None:
    candles = [{"trade_count": n, "closed": n in (1, 3)} for n in range(5)]
    bundle = Bundle(followed("kline.A-B.1m", *candles))
    assert said(bundle.kept(encoding), encoding) == [candles[1], candles[3]]


def test_depth_is_kept_for_nobody_who_lags() -> None:
    assert Bundle(followed("depth.A-B", {"previous": 3})).kept(Encoding.JSON) == b""


def test_what_a_publication_follows_depends_on_the_channel() -> None:
    (counted,) = followed("trades.A-B", {})
    (linked,) = followed("depth.A-B", {"previous": 3})
    (rising,) = followed("pulse", PULSE)
    assert [counted.follows(6), counted.follows(5)] == [True, False]
    assert [linked.follows(3), linked.follows(6)] == [True, False]
    assert rising.follows(2)


FIELDS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 2), min_size=3)
STATES = st.builds(
    lambda fields, prices, n: {**fields, "prices": {f"m{key}": prices[key] for key in range(n)}},
    FIELDS,
    st.lists(st.integers(0, 2), min_size=3, max_size=3),
    st.integers(0, 3),
)


@given(st.lists(STATES, min_size=1, max_size=8))
def test_whoever_merges_the_changes_has_the_state(states: list[dict[str, Any]]) -> None:
    """Markets are only ever added, so prices never vanish."""
    known: dict[str, int] = {}
    for state in states:
        known |= state["prices"]
        state["prices"] = dict(known)
    merged: dict[str, Any] = {}
    for state, made in zip(states, followed("pulse", *states), strict=True):
        (told,) = said(made.frame(Encoding.JSON))
        prices = {**merged.get("prices", {}), **told.get("prices", {})}
        merged = {**merged, **told, "prices": prices}
        assert merged == state
        assert msgspec.json.decode(made.content) == state
