"""gateway.candles: which open seconds a query means."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.candles import Span, window
from schemas.views import INTERVAL_SECONDS, open_second

SPAN = Span(first=600, newest=1_200)


@pytest.mark.parametrize(
    ("from_ms", "to_ms", "limit", "opened", "next_ms"),
    [
        (None, None, 500, range(600, 1_260, 60), None),
        (None, None, 2, range(1_140, 1_260, 60), None),
        (None, 720_000, 2, range(600, 720, 60), None),
        (None, 720_001, 2, range(660, 780, 60), None),
        (0, None, 2, range(600, 720, 60), 720_000),
        (660_000, 780_000, 9, range(660, 780, 60), None),
        (660_001, 780_000, 9, range(720, 780, 60), None),
        (1_200_000, None, 9, range(1_200, 1_260, 60), None),
        (1_200_001, None, 9, range(0), None),
        (780_000, 660_000, 9, range(0), None),
        (0, 0, 9, range(0), None),
    ],
)
def test_window(
    from_ms: int | None, to_ms: int | None, limit: int, opened: range, next_ms: int | None
) -> None:
    asked = window(SPAN, 60, from_ms=from_ms, to_ms=to_ms, limit=limit)
    assert list(asked.open_seconds) == list(opened)
    assert asked.next_ms == next_ms


@given(
    interval=st.sampled_from(sorted(INTERVAL_SECONDS)),
    first=st.integers(0, 10**9),
    count=st.integers(1, 50),
    from_ms=st.integers(0, 2 * 10**12),
    limit=st.integers(1, 7),
)
def test_pages_cover_every_candle_once(
    interval: str, first: int, count: int, from_ms: int, limit: int
) -> None:
    width, opened = INTERVAL_SECONDS[interval], open_second(first, interval)
    span = Span(opened, opened + (count - 1) * width)
    expected = [
        second
        for second in range(opened, opened + count * width, width)
        if second * 1_000 >= from_ms
    ]
    found: list[int] = []
    at: int | None = from_ms
    while at is not None:
        page = window(span, width, from_ms=at, to_ms=None, limit=limit)
        assert len(page.open_seconds) <= limit
        found += page.open_seconds
        at = page.next_ms
    assert found == expected
    assert all(b - a == width for a, b in pairwise(found))
