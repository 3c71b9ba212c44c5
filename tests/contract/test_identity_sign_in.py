"""Signing in against real PostgreSQL and Redis: who gets in, who waits, who is thrown out."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import Refusal
from gateway.identity import totp
from gateway.identity.accounts import NewAccount
from gateway.identity.client_limits import ClientLimits
from gateway.identity.networks import Origin
from tests.fixtures.identity import ELSEWHERE, HERE, PASSWORD, Identity, running_identity

pytestmark = pytest.mark.services
WRONG = "a wrong password"


async def refused(awaitable: "object") -> Refusal:
    with pytest.raises(Refusal) as caught:
        await awaitable  # type: ignore[misc]
    return caught.value


def test_names_have_one_spelling_and_tokens_name_the_session(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            made = await identity.register("Alice")
            for spelling in ("alice", "ALICE", " Alice ", "\uff21lice"):
                tokens = await identity.login(spelling)
                assert tokens.user_id == made.user_id
            listed = await identity.accounts.sessions(made.user_id, current=tokens.session_id)
            assert len(listed) == 4
            assert [one.network for one in listed] == ["192.0.2.0/24"] * 4
            assert [one.session_id for one in listed if one.is_current] == [tokens.session_id]
            taken = await refused(identity.register("aLICE"))
            assert (taken.code, taken.details) == ("name_taken", {"field": "user_name"})

    asyncio.run(story())


def test_guessing_is_slowed_and_only_there_where_it_comes_from(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story(name: str) -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            await identity.register("alice")
            for _ in range(5):
                assert (await refused(identity.login(name, WRONG))).code == "invalid_credentials"
            waits = []
            for _ in range(12):
                delayed = await refused(identity.login(name, PASSWORD))
                assert delayed.code == "sign_in_delayed"
                assert delayed.retry_after is not None
                waits.append(delayed.retry_after)
                identity.clock.pass_seconds(delayed.retry_after)
                await refused(identity.login(name, WRONG))
            assert waits[:4] == [1, 2, 4, 8]
            assert max(waits) == 900
        # Another process, after a restart, remembers.
        async with running_identity(
            auth_database, view_redis, tmp_path, clock=identity.clock
        ) as identity:
            assert (await refused(identity.login(name, PASSWORD))).code == "sign_in_delayed"
            if name == "alice":
                assert (await identity.login("alice", origin=ELSEWHERE)).role == "user"
                identity.clock.pass_seconds(900)
                assert (await identity.login("alice")).role == "user"
                assert (await identity.login("alice")).role == "user"

    asyncio.run(story("alice"))


def test_nobody_is_delayed_like_somebody(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            await identity.register("alice")
            answers = {}
            for name in ("alice", "nobody", "no\x00body", "@", "+49"):
                # All of these spellings are one name.
                spelled = [name, f"{name} ", f" {name.upper()}", name, name, name, f"\u3000{name}"]
                told = [await refused(identity.login(one, WRONG)) for one in spelled]
                answers[name] = [(one.code, one.detail, one.retry_after) for one in told]
            assert len({tuple(one) for one in answers.values()}) == 1

    asyncio.run(story())


def test_two_names_of_one_person_are_not_told_to_be(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            new = NewAccount(user_name="alice", phone="+8613800138000", password=PASSWORD)
            await identity.accounts.create(new)
            for _ in range(6):
                await refused(identity.login("alice", WRONG))
            for other in ("+8613800138000", "+8613800138001"):
                assert (await refused(identity.login(other, WRONG))).code == "invalid_credentials"

    asyncio.run(story())


def test_strangers_everywhere_do_not_lock_the_owner_out(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            await identity.register("alice")
            await identity.login("alice", origin=ELSEWHERE)
            codes = []
            for number in range(80):
                stranger = Origin(address=f"203.0.{number}.1", device="")
                codes.append((await refused(identity.login("alice", WRONG, origin=stranger))).code)
            assert codes[-1] == "sign_in_delayed"
            assert codes.count("invalid_credentials") == 50
            for _ in range(3):
                assert (await identity.login("alice", origin=ELSEWHERE)).role == "user"
            # From where it was never, the owner waits as the strangers do, but never for long.
            delayed = await refused(identity.login("alice", origin=HERE))
            assert delayed.retry_after is not None and delayed.retry_after <= 30

    asyncio.run(story())


def test_staff_without_a_second_factor_may_only_set_one_up(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            made = await identity.register("alice")
            await identity.accounts.set_role(made.user_id, "operator", by="root")
            assert "operate" in (await identity.login("alice")).scope.split()
            identity.sign_in.staff_needs_second_factor = True
            tokens = await identity.login("alice")
            assert tokens.scope == "account"
            refreshed = await identity.sign_in.refresh(tokens.refresh_token, key="", origin=HERE)
            assert refreshed.scope == "account"
            factor = identity.sign_in.second_factor
            secret = (await factor.set_up(made.user_id)).secret
            step = identity.clock.second() // totp.STEP_SECONDS
            codes = await factor.confirm(made.user_id, totp.code_at(secret, step), key="")
            tokens = await identity.login("alice", code=codes.codes[0])
            assert "operate" in tokens.scope.split()

    asyncio.run(story())


def test_a_carriers_address_has_many_who_are_signed_in(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            await identity.register("alice")
            tokens = await identity.login("alice")
            limits = ClientLimits(view_redis, identity.clock.second, {"sign_in": "1/hour"})
            own, identity.sign_in.limits = identity.sign_in.limits, limits
            for _ in range(5):
                tokens = await identity.sign_in.refresh(tokens.refresh_token, key="", origin=HERE)
            codes = [
                (await refused(identity.sign_in.refresh("no", key="", origin=HERE))).code
                for _ in range(3)
            ]
            assert codes[1:] == ["too_many_requests"] * 2
            identity.sign_in.limits = own
            await limits.close()

    asyncio.run(story())


def test_many_guesses_at_once_are_not_many_for_free(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            await identity.register("alice")
            told = await asyncio.gather(
                *(refused(identity.login("alice", WRONG)) for _ in range(50))
            )
            assert sum(one.code == "invalid_credentials" for one in told) == 5
            assert sum(one.code == "sign_in_delayed" for one in told) == 45

    asyncio.run(story())


def test_a_refresh_token_works_once_and_its_reuse_ends_the_family(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            await identity.register("alice")
            other = await identity.login("alice")
            first = await identity.login("alice")
            refresh = identity.sign_in.refresh
            second = await refresh(first.refresh_token, key="", origin=HERE)
            third = await refresh(second.refresh_token, key="", origin=HERE)
            reused = await refused(refresh(first.refresh_token, key="", origin=HERE))
            assert reused.code == "refresh_token_reused"
            dead = await refused(refresh(third.refresh_token, key="", origin=HERE))
            assert dead.code == "refresh_token_invalid"
            assert (await refused(identity.sign_in.require_open(first.session_id))).code == (
                "unauthorized"
            )
            # Another family of the same account goes on.
            assert (await refresh(other.refresh_token, key="", origin=HERE)).user_id
            assert "refresh_reused" in await identity.recorded()

    asyncio.run(story())


def test_fifty_retries_with_one_key_get_one_child(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            await identity.register("alice")
            first = await identity.login("alice")
            refresh = identity.sign_in.refresh
            found = await asyncio.gather(
                *(refresh(first.refresh_token, key="k", origin=HERE) for _ in range(50))
            )
            assert len({one.refresh_token for one in found}) == 1
            child = found[0].refresh_token
            identity.clock.pass_seconds(60)
            retried = await refresh(first.refresh_token, key="k", origin=HERE)
            assert retried.refresh_token == child
            identity.clock.pass_seconds(1)
            late = await refused(refresh(first.refresh_token, key="k", origin=HERE))
            assert late.code == "refresh_token_reused"

    asyncio.run(story())


def test_a_thief_with_another_key_ends_the_family(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            await identity.register("alice")
            first = await identity.login("alice")
            refresh = identity.sign_in.refresh
            await refresh(first.refresh_token, key="k", origin=HERE)
            thief = await refused(refresh(first.refresh_token, key="other", origin=HERE))
            assert thief.code == "refresh_token_reused"

    asyncio.run(story())


@pytest.mark.parametrize("text", ["", "x", "dr_", "dr_AAAA", "dr_" + "A" * 107, "ü"])
def test_an_invented_refresh_token_does_nothing(
    auth_database: str, view_redis: str, tmp_path: Path, text: str
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            invented = await refused(identity.sign_in.refresh(text, key="", origin=HERE))
            assert invented.code == "refresh_token_invalid"

    asyncio.run(story())


def test_sessions_end_when_idle_and_after_their_longest_life(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        day = 24 * 3_600
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            await identity.register("alice")
            idle = await identity.login("alice")
            used, refresh = await identity.login("alice"), identity.sign_in.refresh
            for _ in range(3):
                identity.clock.pass_seconds(29 * day)
                used = await refresh(used.refresh_token, key="", origin=HERE)
            assert used.refresh_expires_in == 3 * day
            gone = await refused(refresh(idle.refresh_token, key="", origin=HERE))
            assert gone.code == "refresh_token_invalid"
            identity.clock.pass_seconds(3 * day)
            gone = await refused(refresh(used.refresh_token, key="", origin=HERE))
            assert gone.code == "refresh_token_invalid"

    asyncio.run(story())


async def with_second_factor(identity: Identity) -> tuple[str, tuple[str, ...]]:
    made = await identity.register("alice")
    factor = identity.sign_in.second_factor
    secret = (await factor.set_up(made.user_id)).secret
    assert (await factor.set_up(made.user_id)).secret == secret
    step = identity.clock.second() // totp.STEP_SECONDS
    confirmed = await asyncio.gather(
        *(
            factor.confirm(made.user_id, totp.code_at(secret, step), key="one key")
            for _ in range(10)
        )
    )
    assert len({one.codes for one in confirmed}) == 1
    return secret, confirmed[0].codes


def test_a_second_factor_is_asked_for_and_counts_once(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            secret, codes = await with_second_factor(identity)
            assert (await refused(identity.login("alice"))).code == "second_factor_required"
            step = identity.clock.second() // totp.STEP_SECONDS
            # The code that confirmed it has been seen.
            replay = await refused(identity.login("alice", code=totp.code_at(secret, step)))
            assert replay.code == "second_factor_invalid"
            identity.clock.pass_seconds(totp.STEP_SECONDS)
            code = totp.code_at(secret, step + 1)
            told = await asyncio.gather(
                *(identity.login("alice", code=code) for _ in range(2)), return_exceptions=True
            )
            assert sorted(type(one).__name__ for one in told) == ["Refusal", "Tokens"]
            assert (await identity.login("alice", code=codes[3].upper())).role == "user"
            spent = await refused(identity.login("alice", code=codes[3]))
            assert spent.code == "second_factor_invalid"

    asyncio.run(story())


def test_secrets_of_second_factors_are_not_in_the_database(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(auth_database, view_redis, tmp_path) as identity:
            secret, codes = await with_second_factor(identity)
            async with identity.database.transaction() as connection:
                cursor = await connection.execute("SELECT accounts::text FROM accounts")
                stored = str(await cursor.fetchall())
            for hidden in (secret, secret.encode().hex(), *codes):
                assert hidden not in stored

    asyncio.run(story())
