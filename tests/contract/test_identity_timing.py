"""Nobody can tell from the time of an answer whether there is such an account."""

import asyncio
import statistics
import time
from pathlib import Path

import pytest

from gateway.errors import Refusal
from gateway.identity.passwords import Passwords
from tests.fixtures.identity import Identity, running_identity

pytestmark = pytest.mark.services
TRIES = 25
# Of medians, of hashes of a tenth of a second each. Without the hash in place of a missing one the
# ratio is above 20.
RATIO_MAX = 1.25


async def seconds_of(identity: Identity, name: str) -> float:
    began = time.perf_counter()
    with pytest.raises(Refusal) as refused:
        await identity.login(name, "a wrong password")
    took = time.perf_counter() - began
    assert refused.value.code == "invalid_credentials"
    # The delay after wrong passwords is over before the next one.
    identity.clock.pass_seconds(1_000)
    return took


def test_unknown_users_and_wrong_passwords_take_as_long(
    auth_database: str, view_redis: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with running_identity(
            auth_database, view_redis, tmp_path, passwords=Passwords()
        ) as identity:
            await identity.register("alice")
            erased = await identity.register("erased")
            await identity.accounts.erase(erased.user_id, by="test")
            names = ("alice", "nobody", "erased", "no such name at all")
            took: dict[str, list[float]] = {name: [] for name in names}
            # Interleaved, so that what the machine does besides is the same for all.
            for _ in range(TRIES):
                for name in names:
                    took[name].append(await seconds_of(identity, name))
            medians = {name: statistics.median(times) for name, times in took.items()}
            assert max(medians.values()) / min(medians.values()) < RATIO_MAX, medians

    asyncio.run(story())
