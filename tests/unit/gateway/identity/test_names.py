"""gateway.identity.names: one spelling for each name, and ids that say nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Refusal
from gateway.identity.names import (
    is_session_id,
    is_user_id,
    looked_for,
    new_session_id,
    new_user_id,
    normalised,
)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("Alice", ("user_name", "alice")),
        ("  ALICE ", ("user_name", "alice")),
        ("榴莲大王", ("user_name", "榴莲大王")),
        ("+8613800000000", ("phone", "+8613800000000")),
        ("\uff0b86\uff11\uff13800000000", ("phone", "+8613800000000")),
        ("A.B@Example.ORG", ("email", "a.b@example.org")),
    ],
)
def test_what_is_typed_is_found(typed: str, found: tuple[str, str]) -> None:
    assert looked_for(typed) == found


@pytest.mark.parametrize(
    "typed", ["", "a", "a b c", "+", "+0123456789", "a@b@c", "a\x00bc", "ab\n"]
)
def test_what_nobody_is_called(typed: str) -> None:
    assert looked_for(typed) is None


@given(st.text(max_size=300))
def test_whatever_is_typed_is_looked_for_or_not(typed: str) -> None:
    found = looked_for(typed)
    assert found is None or looked_for(found[1]) == found


def test_names_are_checked_one_by_one() -> None:
    names = normalised(user_name="Bob", phone=None, email="B@example.org")
    assert names.all() == ("bob", "b@example.org")
    for fields in (
        {"user_name": "b\n", "phone": None, "email": None},
        {"user_name": "bob\n", "phone": None, "email": None},
        {"user_name": None, "phone": "123", "email": None},
        {"user_name": None, "phone": None, "email": None},
    ):
        with pytest.raises(Refusal) as refused:
            normalised(**fields)
        assert refused.value.code == "invalid_request"


def test_ids_are_ours_and_no_two_are_alike() -> None:
    assert is_user_id(new_user_id()) and is_session_id(new_session_id())
    assert len({new_user_id() for _ in range(1_000)}) == 1_000
    assert not is_user_id(new_session_id()) and not is_user_id(new_user_id() + "\n")
