"""Passwords: which ones will do, and argon2id in threads of which only a few run at once.

A hash takes 64 MiB and a tenth of a second on purpose, so that a flood must wait its turn, and
beyond a bound is refused, instead of taking all memory. Source: RFC 9106 section 4, second
recommended option; NIST SP 800-63B section 5.1.1.2.
"""

import asyncio
import contextlib
import unicodedata
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import Parameters, PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from gateway.errors import Refusal
from gateway.identity.names import Names, fold
from gateway.identity.weak_passwords import WEAK
from schemas.wire import WireCode
from schemas.wire_identity import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN

AT_ONCE: Final = 2
WAITING_MAX: Final = 64
RETRY_AFTER_SECONDS: Final = 2
_NAME_CHARS_MIN: Final = 4
_OTHER_CHARS_MIN: Final = 5

T = TypeVar("T")


def check_password(password: str, names: Names) -> None:
    """Raises Refusal(password_too_weak)."""
    folded = fold(password)
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        reason = f"A password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters."
    elif folded in WEAK or len(set(folded)) < 4:
        reason = "This is one of the first passwords that anybody would try."
    elif any(_is_made_of(name, folded) for name in names.all()):
        reason = "A password must not be made of the name that it is for."
    else:
        return
    raise Refusal(WireCode.PASSWORD_TOO_WEAK, reason, {"field": "password"})


def _is_made_of(name: str, password: str) -> bool:
    local = name.partition("@")[0].lstrip("+")
    others = len(password) - len(local)
    return len(local) >= _NAME_CHARS_MIN and local in password and others < _OTHER_CHARS_MIN


class Passwords:
    """Hashes and verifies; close() at the end."""

    def __init__(self, parameters: Parameters = RFC_9106_LOW_MEMORY) -> None:
        self._hasher = PasswordHasher.from_parameters(parameters)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        # Verified in place of a hash that is not there: the same work, always in vain.
        self._nobodys = self._hasher.hash("a password that is nobody's")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hash and verify inside, one thing at a time; entered before a connection is taken.

        Raises Refusal(too_many_requests) when too many wait for theirs.
        """
        if self._waiting >= WAITING_MAX:
            raise Refusal(
                WireCode.TOO_MANY_REQUESTS,
                "Too many sign in at this moment.",
                retry_after=RETRY_AFTER_SECONDS,
            )
        self._waiting += 1
        try:
            async with self._turns:
                yield
        finally:
            self._waiting -= 1

    async def hash(self, password: str) -> str:
        """In the encoding of argon2, its parameters and salt within."""
        return await self._run(lambda: self._hasher.hash(_plain(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """stored: None if there is no such account, which takes just as long."""
        known = self._nobodys if stored is None else stored
        return await self._run(lambda: self._is_right(known, password)) and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Was it hashed with other parameters than are used now."""
        return self._hasher.check_needs_rehash(stored)

    def _is_right(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, _plain(password))
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _plain(password: str) -> bytes:
    # The same keys on another keyboard may give the same characters in another composition.
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
