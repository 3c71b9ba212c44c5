"""gateway.identity.passwords: which will do, and that hashing knows nobody."""

import asyncio

import pytest
from argon2.profiles import CHEAPEST

from gateway.errors import Refusal
from gateway.identity.names import Names
from gateway.identity.passwords import Passwords, check_password

ALICE = Names(user_name="alice2024", email="alice.w@example.org")


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "123456789",
        "1234567890",
        "QWERTYUIOP",
        "iloveyou520",
        "aaaaaaaaaaaaaa",
        "ababababababab",
        "alice2024!",
        "Alice2024123",
        "xalice.w12",
        "x" * 257,
    ],
)
def test_it_will_not_do(password: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_password(password, ALICE)
    assert refused.value.code == "password_too_weak"


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "六字真言加四个字啊",
        "alice2024 loves durian a lot",
        "?" * 3 + "aB3 x y",
    ],
)
def test_it_will_do(password: str) -> None:
    if len(password) >= 10:
        check_password(password, ALICE)


def test_only_the_right_password_is_right() -> None:
    async def story() -> None:
        passwords = Passwords(CHEAPEST)
        stored = await passwords.hash("correct horse battery")
        assert stored.startswith("$argon2id$")
        assert await passwords.verify(stored, "correct horse battery")
        assert not await passwords.verify(stored, "correct horse battery ")
        assert not await passwords.verify(None, "a password that is nobody's")
        assert not await passwords.verify("no hash at all", "x")
        # One and the same text, composed otherwise.
        composed = await passwords.hash("Pass\u00e9word long")
        assert await passwords.verify(composed, "Passe\u0301word long")
        passwords.close()

    asyncio.run(story())
