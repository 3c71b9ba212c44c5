"""Differences are listed key by key and field by field."""

from projections.batch import Place
from projections.differences import Difference, list_differences
from projections.memory import Stored


def test_equal_views_have_no_differences() -> None:
    views: dict[Place, Stored] = {(2, "a"): b"1", (2, "h"): {"f": b"1"}, (0, "z"): {"m": 1.0}}
    assert list_differences(views, {**views, (2, "gone"): {}}) == []


def test_each_key_and_field_that_differs_is_named() -> None:
    expected: dict[Place, Stored] = {
        (2, "a"): b"1",
        (2, "h"): {"same": b"1", "other": b"2", "lost": b"3"},
        (2, "list"): [b"1"],
    }
    found: dict[Place, Stored] = {(2, "h"): {"same": b"1", "other": b"9"}, (2, "list"): [b"2"]}
    assert list_differences(expected, found) == [
        Difference(database=2, key="a", expected="1", found=None),
        Difference(database=2, key="h", field="lost", expected="3", found=None),
        Difference(database=2, key="h", field="other", expected="2", found="9"),
        Difference(database=2, key="list", expected="[b'1']", found="[b'2']"),
    ]
