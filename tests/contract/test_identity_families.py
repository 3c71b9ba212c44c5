"""Sessions and refresh tokens under whatever order of events: a model against real PostgreSQL.

The model knows of each family which token is its newest, and with which key it came to be.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.errors import Refusal
from gateway.identity.sessions import IDLE_MS, RETRY_MS
from schemas.wire_identity import Tokens
from tests.fixtures.identity import HERE, PASSWORD, Identity, running_identity

pytestmark = pytest.mark.services


class Family:
    """tokens: all ever given, oldest first. keys: that each but the first came with."""

    def __init__(self, tokens: Tokens, now_ms: int) -> None:
        self.session_id = tokens.session_id
        self.tokens = [tokens.refresh_token]
        self.keys = [""]
        self.seen_ms = self.created_ms = now_ms
        self.is_alive = True


class Families(RuleBasedStateMachine):
    identity: Identity
    loop: asyncio.AbstractEventLoop
    numbers = iter(range(1_000_000))

    def __init__(self) -> None:
        super().__init__()
        self.name = f"user{next(self.numbers)}"
        self.user_id = self.run(self.identity.register(self.name)).user_id
        self.families: list[Family] = []

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @property
    def now_ms(self) -> int:
        return self.identity.clock.now_ms

    def refreshed(self, text: str, key: str) -> str:
        """The next token, or the code of the refusal."""
        try:
            tokens = self.run(self.identity.sign_in.refresh(text, key=key, origin=HERE))
        except Refusal as refusal:
            return refusal.code
        found: str = tokens.refresh_token
        return found

    @rule()
    def sign_in(self) -> None:
        tokens = self.run(self.identity.login(self.name, PASSWORD))
        self.families.append(Family(tokens, self.now_ms))

    @precondition(lambda self: self.families)
    @rule(which=st.integers(0, 50), age=st.integers(0, 3), key=st.sampled_from(["", "k", "l"]))
    def refresh(self, which: int, age: int, key: str) -> None:
        family = self.families[which % len(self.families)]
        at = max(len(family.tokens) - 1 - age, 0)
        found = self.refreshed(family.tokens[at], key)
        if not family.is_alive:
            assert found == "refresh_token_invalid"
        elif at == len(family.tokens) - 1:
            assert found not in family.tokens and found.startswith("dr_")
            family.tokens.append(found)
            family.keys.append(key)
            family.seen_ms = self.now_ms
        elif (
            at == len(family.tokens) - 2
            and key
            and key == family.keys[-1]
            and self.now_ms - family.seen_ms <= RETRY_MS
        ):
            assert found == family.tokens[-1]
        else:
            assert found == "refresh_token_reused"
            family.is_alive = False

    @precondition(lambda self: self.families)
    @rule(which=st.integers(0, 50))
    def end(self, which: int) -> None:
        family = self.families[which % len(self.families)]
        try:
            self.run(self.identity.accounts.end_session(self.user_id, family.session_id, by="test"))
        except Refusal as refusal:
            # Swept, a month after it had ended.
            assert (refusal.code, family.is_alive) == ("unknown_session", False)
        family.is_alive = False

    @rule()
    def end_all(self) -> None:
        self.run(self.identity.accounts.end_sessions(self.user_id, by="test"))
        for family in self.families:
            family.is_alive = False

    @rule(seconds=st.sampled_from([1, RETRY_MS // 1_000, IDLE_MS // 2_000]))
    def time_passes(self, seconds: int) -> None:
        self.identity.clock.pass_seconds(seconds)
        for family in self.families:
            if self.now_ms - family.seen_ms >= IDLE_MS or self.now_ms - family.created_ms >= (
                3 * IDLE_MS
            ):
                family.is_alive = False

    @invariant()
    def those_that_are_alive_are_listed(self) -> None:
        listed = self.run(self.identity.accounts.sessions(self.user_id))
        alive = {family.session_id for family in self.families if family.is_alive}
        assert {one.session_id for one in listed} == alive


def test_families_follow_the_model(auth_database: str, view_redis: str, tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    with contextlib.closing(loop):
        running = running_identity(auth_database, view_redis, tmp_path)
        Families.identity = loop.run_until_complete(running.__aenter__())
        Families.loop = loop
        try:
            Families.TestCase.settings = settings(
                deadline=None,
                stateful_step_count=40,
                suppress_health_check=[HealthCheck.too_slow],
            )
            Families.TestCase("runTest").runTest()
        finally:
            loop.run_until_complete(running.__aexit__(None, None, None))
