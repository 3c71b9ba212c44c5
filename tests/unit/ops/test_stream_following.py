"""ops.stream without I/O: merging, following, and the balance that counts by the second."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.stream.balance import BalanceClock
from ops.stream.errors import StreamBroken
from ops.stream.following import HOLES_MAX, Change, Following, Hole
from ops.stream.merging import is_whole, merged
from schemas.amounts import parse_amount
from schemas.wire import ChannelRequest, Pub, Recovered, Since, Snapshot

NOTHING: Any = b"null"
TRADES = "trades.DUR-CNY"
TICKER = "ticker.DUR-CNY"
DEPTH = "depth.DUR-CNY"
TICKER_DATA = {
    "market": "DUR-CNY",
    "last": "1.0",
    "open": "1.0",
    "high": "1.0",
    "low": "1.0",
    "change": "0.0",
    "volume": "3.0",
    "quote_volume": "3.0",
    "trade_count": 3,
    "burned": "0.1",
    "burned_total": "0.1",
    "time": 5,
}


def snapshot(following: Following, channel: str, offset: int, data: Any = None) -> Change | None:
    return following.snapshot(Snapshot(ch=channel, epoch="a", offset=offset, data=NOTHING), data)


def publish(following: Following, channel: str, offset: int, data: Any = None) -> Any:
    return following.publication(Pub(ch=channel, offset=offset, data=NOTHING), data)


def recover(following: Following, channel: str, offset: int, epoch: str = "a") -> Any:
    return following.recovered(Recovered(ch=channel, epoch=epoch, offset=offset))


def following_at(channel: str, offset: int, data: Any = None) -> Following:
    following = Following()
    following.ask([channel], 1)
    following.granted([channel], 1)
    assert snapshot(following, channel, offset, data) is not None
    return following


def test_changes_are_merged_one_level_deep_and_prices_two() -> None:
    pulse = {"second": 7, "index": "5", "reward": "1.0", "weight_total": "3", "prices": {"A": "1"}}
    after = merged("pulse", pulse, {"index": "6", "prices": {"B": "2"}}, 8)
    assert after == {**pulse, "second": 8, "index": "6", "prices": {"A": "1", "B": "2"}}
    assert pulse["second"] == 7
    assert merged("ticker", TICKER_DATA, {"last": "2.0"}, 9)["last"] == "2.0"
    assert merged("account", {"user_id": "old", "more": 1}, {"user_id": "new"}, 1) == {
        "user_id": "new"
    }
    assert merged("trades", None, {"trade_id": 1}, 1) is None


def test_the_first_publication_after_an_empty_snapshot_is_the_state() -> None:
    following = following_at(TICKER, 0, None)
    change = publish(following, TICKER, 1, TICKER_DATA)
    assert (change.data, change.state) == (TICKER_DATA, TICKER_DATA)


def test_depth_levels_are_replaced_added_taken_out_and_ranked() -> None:
    book = {"bids": [["9.5", "1.0"], ["9.0", "2.0"]], "asks": [["10.0", "3.0"]]}
    changes = {
        "bids": [["9.5", "0"], ["9.9", "4.0"]],
        "asks": [["10.0", "1.0"], ["9.95", "1.5"]],
        "previous": 4,
    }
    assert merged("depth", book, changes, 9) == {
        "bids": [["9.9", "4.0"], ["9.0", "2.0"]],
        "asks": [["9.95", "1.5"], ["10.0", "1.0"]],
    }


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("ticker", TICKER_DATA, True),
        ("ticker", {**TICKER_DATA, "later": 1}, True),
        ("ticker", {"last": "1.0"}, False),
        ("pulse", {"index": "1", "reward": "1", "weight_total": "1", "prices": {}}, True),
        ("pulse", {"index": "1"}, False),
        ("account", {}, True),
        ("ticker", None, False),
    ],
)
def test_whole_publications_are_told_from_changes(kind: str, data: Any, expected: bool) -> None:
    assert is_whole(kind, data) is expected


def test_what_comes_before_the_answer_belongs_to_the_old_subscription() -> None:
    following = Following()
    asked = following.ask([TRADES], 1)
    assert asked.channels == (ChannelRequest(ch=TRADES),)
    assert snapshot(following, TRADES, 3) is None
    assert publish(following, TRADES, 4) is None
    assert recover(following, TRADES, 4) is None
    following.granted([TRADES], 1)
    assert publish(following, TRADES, 4) is None  # no since was sent: only a snapshot may come
    assert snapshot(following, TRADES, 5) is not None
    assert publish(following, TRADES, 6).offset == 6
    assert publish(following, "burns.DUR-CNY", 6) is None


def test_an_answer_to_an_older_request_grants_nothing() -> None:
    following = Following()
    following.ask([TRADES], 1)
    following.ask([TRADES], 2)
    following.granted([TRADES], 1)
    assert snapshot(following, TRADES, 3) is None
    following.granted([TRADES], 2)
    assert snapshot(following, TRADES, 3) is not None


def test_a_resume_goes_on_after_the_last_publication() -> None:
    following = following_at(TRADES, 3)
    publish(following, TRADES, 4)
    asked = following.ask([TRADES], 2)
    assert asked.channels == (ChannelRequest(ch=TRADES, since=Since(epoch="a", offset=4)),)
    assert not following.is_settled(TRADES)
    following.granted([TRADES], 2)
    assert [publish(following, TRADES, offset).offset for offset in (5, 6)] == [5, 6]
    assert not following.is_settled(TRADES)
    assert recover(following, TRADES, 6).kind == "recovered"
    assert following.is_settled(TRADES)
    assert publish(following, TRADES, 7).epoch == "a"


@pytest.mark.parametrize("offset", [3, 4, 6, 9])
def test_an_ordered_channel_has_a_hole_unless_the_next_offset_comes(offset: int) -> None:
    following = following_at(TRADES, 4)
    assert publish(following, TRADES, offset) == Hole(TRADES)
    assert publish(following, TRADES, 5) is None  # nothing is taken before it was asked for again
    asked = following.ask([TRADES], 2)
    assert asked.channels[0].since == Since(epoch="a", offset=4)


def test_a_state_channel_may_skip_only_to_a_whole_publication() -> None:
    following = following_at(TICKER, 4, TICKER_DATA)
    assert publish(following, TICKER, 5, {"last": "2.0"}).state["last"] == "2.0"
    assert publish(following, TICKER, 9, TICKER_DATA).state == TICKER_DATA
    assert publish(following, TICKER, 11, {"last": "2.0"}) == Hole(TICKER)


def test_a_whole_state_may_come_twice_but_nothing_older() -> None:
    following = following_at(TICKER, 4, TICKER_DATA)
    assert publish(following, TICKER, 4, TICKER_DATA) is None
    assert following.is_settled(TICKER)
    assert publish(following, TICKER, 3, TICKER_DATA) == Hole(TICKER)
    partial = following_at(TICKER, 4, TICKER_DATA)
    assert publish(partial, TICKER, 4, {"last": "2.0"}) == Hole(TICKER)


def test_depth_follows_by_its_previous_offset() -> None:
    following = following_at(DEPTH, 40, {"bids": [], "asks": []})
    level = {"bids": [["9.5", "1.0"]], "asks": []}
    assert publish(following, DEPTH, 44, {**level, "previous": 40}).state["bids"] == level["bids"]
    assert publish(following, DEPTH, 50, {**level, "previous": 47}) == Hole(DEPTH)


def test_a_recovery_that_ends_elsewhere_is_a_hole() -> None:
    following = following_at(TRADES, 4)
    following.ask([TRADES], 2)
    following.granted([TRADES], 2)
    assert recover(following, TRADES, 5) == Hole(TRADES)


def test_a_snapshot_replaces_everything_at_any_time() -> None:
    following = following_at(TICKER, 4, TICKER_DATA)
    fresh = Snapshot(ch=TICKER, epoch="b", offset=1, data=NOTHING)
    change = following.snapshot(fresh, {**TICKER_DATA, "last": "7.0"})
    assert change is not None
    assert (change.epoch, following.state(TICKER)["last"]) == ("b", "7.0")
    assert following.position(TICKER) == Since(epoch="b", offset=1)


def test_holes_are_mended_by_a_resume_then_by_snapshots_and_not_for_ever() -> None:
    following = following_at(TRADES, 4)
    expected = [Since(epoch="a", offset=4), None, None]
    for number, since in enumerate(expected, 2):
        assert publish(following, TRADES, 9) == Hole(TRADES)
        assert following.ask([TRADES], number).channels[0].since == since
        following.granted([TRADES], number)
        snapshot(following, TRADES, 4)
    assert len(expected) == HOLES_MAX
    with pytest.raises(StreamBroken) as broken:
        publish(following, TRADES, 9)
    assert broken.value.channel == TRADES


def test_a_forgotten_channel_is_not_heard() -> None:
    following = following_at(TRADES, 4)
    following.forget([TRADES])
    assert publish(following, TRADES, 5) is None
    assert following.channels() == []
    assert (following.position(TRADES), following.state(TRADES)) == (None, None)


_amounts = st.integers(0, 10**12).map(lambda minor: f"{minor // 100}.{minor % 100:02}")
_pulses = st.fixed_dictionaries(
    {
        "index": st.integers(0, 2**100).map(str),
        "reward": st.sampled_from(["1.00", "2.00"]),
        "weight_total": st.integers(1, 5).map(str),
        "prices": st.dictionaries(st.sampled_from("ABC"), _amounts),
    }
)


def changes_between(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What the gateway sends of a pulse after another one; markets do not go away."""
    changed = {name: new[name] for name in new if new[name] != old[name]}
    if "prices" in changed:
        known = old["prices"].items()
        changed["prices"] = {
            name: at for name, at in new["prices"].items() if (name, at) not in known
        }
    return changed


@given(st.lists(_pulses, min_size=2, max_size=20), st.data())
def test_merged_changes_equal_whole_states_wherever_a_client_was_cut(
    pulses: list[dict[str, Any]], data: st.DataObject
) -> None:
    for before, after in itertools.pairwise(pulses):
        after["prices"] = {**before["prices"], **after["prices"]}
    following = following_at("pulse", 1, {"second": 1, **pulses[0]})
    for second, pulse in enumerate(pulses[1:], 2):
        is_cut = data.draw(st.booleans())
        if is_cut:  # some were skipped, or it is the first after a recovery's start
            following.ask(["pulse"], second)
            following.granted(["pulse"], second)
        published = pulse if is_cut else changes_between(pulses[second - 2], pulse)
        change = publish(following, "pulse", second, published)
        assert change.state == {"second": second, **pulse}
        if is_cut:
            assert recover(following, "pulse", second).state == change.state


SCALE = 8


def account(
    *, weight: int, entry_index: int, entry_fraction: int, total: str, asset: str = "DUR"
) -> dict[str, Any]:
    return {
        "user_id": "alice",
        "balances": [
            {"asset": "CNY", "scale": 8, "available": "9.0", "held": "0", "total": "9.00000000"},
            {"asset": asset, "scale": 8, "available": "0", "held": "0", "total": total},
        ],
        "mining": {
            "weight": str(weight),
            "entry_index": str(entry_index),
            "entry_fraction": str(entry_fraction),
            "settled": "0.00000000",
        },
        "position": 1,
    }


def pulse_at(second: int, index: int, **prices: str) -> dict[str, Any]:
    return {
        "second": second,
        "index": str(index),
        "reward": "1.00000000",
        "weight_total": "3",
        "prices": prices,
    }


def test_balance_clock_agrees_with_the_worked_example_of_the_protocol() -> None:
    clock = BalanceClock("DUR", SCALE, ["DUR-CNY"])
    assert clock.now() is None
    prices = {"DUR-CNY": "2.50000000", "OTHER-CNY": "1.00000000"}
    clock.take("pulse", pulse_at(1_795_345_343, 4304240283865562043733333333, **prices))
    assert clock.now() is None
    holds = account(weight=3, entry_index=0, entry_fraction=0, total="1000.00000000")
    clock.take("account", holds)
    clock.take("mining", {"asset": "DUR"})
    now = clock.now()
    assert now is not None
    assert (now.second, now.asset) == (1_795_345_343, "DUR")
    assert (now.amount, now.accrued) == ("1006.99999999", "6.99999999")
    assert now.values == {"DUR-CNY": "2517.49999997"}


def test_balance_clock_counts_from_zero_without_any_of_the_asset() -> None:
    clock = BalanceClock("DUR", SCALE, [])
    clock.take("pulse", pulse_at(5, 1 << 64))
    other = account(weight=2, entry_index=0, entry_fraction=0, total="4.00000000", asset="BTC")
    clock.take("account", other)
    now = clock.now()
    assert now is not None
    assert (now.amount, now.values) == ("0.00000002", {})


@given(
    weight=st.integers(1, 10**12),
    steps=st.lists(st.integers(0, 2**80), min_size=1, max_size=20),
    fraction=st.integers(0, 2**64 - 1),
    settles=st.sets(st.integers(0, 19)),
)
def test_balance_clock_never_jumps_when_mining_is_settled(
    weight: int, steps: list[int], fraction: int, settles: set[int]
) -> None:
    """A settlement moves the accrued part to the balance and keeps the fraction."""
    clock = BalanceClock("DUR", SCALE, [])
    index = entry = total = 0
    exact = fraction
    for number, step in enumerate(steps):
        index += step
        exact += weight * step
        shown = f"{total // 10**8}.{total % 10**8:08}"
        state = account(weight=weight, entry_index=entry, entry_fraction=fraction, total=shown)
        clock.take("account", state)
        clock.take("pulse", pulse_at(number, index))
        now = clock.now()
        assert now is not None
        assert parse_amount(now.amount, SCALE) == exact >> 64
        if number in settles:
            settled = (weight * (index - entry) + fraction) >> 64
            total, entry, fraction = total + settled, index, exact & (2**64 - 1)
