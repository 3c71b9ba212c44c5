"""gateway.stream.history: what is new, what is missing, and what can be filled in after a cut."""

import pytest

from gateway.stream import history
from gateway.stream.history import History
from gateway.stream.publication import Publication
from tests.fixtures._hub_reader import publication

TRADES, BURNS, DEPTH = "trades.A-B", "burns.A-B", "depth.A-B"


def trade(offset: int, key: str = TRADES) -> Publication:
    return publication(key, offset, {})


def depth(offset: int, previous: int) -> Publication:
    return publication(DEPTH, offset, {"previous": previous})


def offsets(found: list[Publication] | None) -> list[int] | None:
    return None if found is None else [kept.offset for kept in found]


@pytest.mark.parametrize(
    ("after", "expected"), [(6, [7]), (7, []), (4, [5, 6, 7]), (3, None), (8, None)]
)
def test_since_is_complete_or_nothing(after: int, expected: list[int] | None) -> None:
    kept = History(trade(offset) for offset in (5, 6, 7))
    assert offsets(kept.since(TRADES, after)) == expected


@pytest.mark.parametrize(
    ("after", "expected"), [(10, [14, 17]), (14, [17]), (17, []), (12, None), (9, None)]
)
def test_since_follows_the_links_of_depth(after: int, expected: list[int] | None) -> None:
    kept = History([depth(14, 10), depth(17, 14)])
    assert offsets(kept.since(DEPTH, after)) == expected


@pytest.mark.parametrize(
    ("after", "expected"), [(10, [14]), (12, [14]), (9, [10, 14]), (8, None), (14, [])]
)
def test_since_of_a_channel_that_may_skip_is_sure_within_what_is_kept(
    after: int, expected: list[int] | None
) -> None:
    kept = History(publication("pulse", offset, {}) for offset in (10, 14))
    assert offsets(kept.since("pulse", after)) == expected


def test_since_gives_no_more_than_wanted() -> None:
    kept = History(trade(offset) for offset in (5, 6, 7))
    assert offsets(kept.since(TRADES, 5, 2)) == [6, 7]
    assert kept.since(TRADES, 4, 2) is None
    assert offsets(kept.since(TRADES, 7, 0)) == []


def test_an_unknown_channel_has_no_history() -> None:
    assert History().since(TRADES, 0) is None


def test_what_was_admitted_before_is_not_new() -> None:
    kept = History([trade(5)])
    fresh, has_hole = kept.admit(TRADES, [trade(4), trade(5), trade(6)])
    assert (offsets(list(fresh)), has_hole) == ([6], False)
    assert kept.admit(TRADES, [trade(6)]) == ([], False)


def test_a_hole_leaves_only_what_comes_after_it() -> None:
    kept = History([trade(5)])
    fresh, has_hole = kept.admit(TRADES, [trade(6), trade(8), trade(9)])
    assert (offsets(list(fresh)), has_hole) == ([8, 9], True)
    assert kept.since(TRADES, 5) is None
    assert kept.since(TRADES, 6) is None
    assert offsets(kept.since(TRADES, 7)) == [8, 9]


def test_after_a_hole_a_state_is_whole() -> None:
    kept = History([publication("ticker.A-B", 1, {"last": "1", "high": "2"})])
    fresh, _ = kept.admit("ticker.A-B", [publication("ticker.A-B", 3, {"last": "1", "high": "3"})])
    assert fresh[0].changes is None


def test_private_channels_are_passed_on_but_not_kept() -> None:
    kept = History()
    fresh, has_hole = kept.admit("account:u", [publication("account:u", 4, {})])
    assert (offsets(list(fresh)), has_hole) == ([4], False)
    assert kept.since("account:u", 4) is None


def test_the_oldest_go_first_whichever_channel_they_are_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "HISTORY_MAX", 3)
    kept = History()
    for key, offset in ((TRADES, 1), (BURNS, 1), (BURNS, 2), (BURNS, 3)):
        kept.admit(key, [trade(offset, key)])
    assert kept.since(TRADES, 1) is None
    assert offsets(kept.since(BURNS, 0)) == [1, 2, 3]
    # What is not kept any more is known all the same.
    assert kept.admit(TRADES, [trade(1)]) == ([], False)
    _, has_hole = kept.admit(TRADES, [trade(3)])
    assert has_hole
