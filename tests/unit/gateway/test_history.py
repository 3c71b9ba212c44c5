"""gateway.history: what can be filled in after a cut, and what can't."""

import pytest

from gateway import history
from gateway.history import History, Publication


def publication(key: str, offset: int) -> Publication:
    return Publication(key=key, offset=offset, content=b"")


def offsets(found: list[Publication] | None) -> list[int] | None:
    return None if found is None else [kept.offset for kept in found]


@pytest.mark.parametrize(
    ("after", "expected"), [(6, [7]), (7, []), (4, [5, 6, 7]), (3, None), (8, None)]
)
def test_since_is_complete_or_nothing(after: int, expected: list[int] | None) -> None:
    kept = History(publication("a", offset) for offset in (5, 6, 7))
    assert offsets(kept.since("a", after)) == expected


def test_an_unknown_channel_has_no_history() -> None:
    assert History().since("a", 0) is None
    assert History().newest_offset("a") is None


def test_the_oldest_go_first_whichever_channel_they_are_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "HISTORY_MAX", 3)
    kept = History()
    for key, offset in (("a", 1), ("b", 1), ("b", 2), ("b", 3)):
        kept.add(publication(key, offset))
    assert kept.newest_offset("a") is None
    assert offsets(kept.since("b", 0)) == [1, 2, 3]
    kept.forget("b")
    for offset in (7, 8, 9, 10):
        kept.add(publication("b", offset))
    assert offsets(kept.since("b", 7)) == [8, 9, 10]
