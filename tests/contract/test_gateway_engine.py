"""gateway.engine_client over TCP: a command's fate when engines and connections are lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.engine_client import OUTSTANDING_MAX, Address, EngineClient, EngineTimes, fixed_address
from gateway.errors import EngineMisread, EngineUnavailable, LeaderUnknown
from schemas.commands import DepositFunds
from schemas.frames import Accepted, Refused
from schemas.rejections import RejectionCode
from tests.fixtures.tiny_engine import TinyEngine

HOST = "127.0.0.1"
DEADLINE_SECONDS = 20.0
TIMES = EngineTimes(
    connected_max=0.4,
    answer_max=5.0,
    retry_first=0.01,
    retry_last=0.05,
    silence_max=0.1,
    silence_last=10.0,
)


def deposit(reference: str, amount: int = 100) -> DepositFunds:
    return DepositFunds(user_id="u", asset_id="CNY", amount_minor=amount, reference=reference)


class Registry:
    """Where the leader is, as the head row would tell; None: nobody can say."""

    def __init__(self, engine: TinyEngine | None) -> None:
        self.engine = engine
        self.asked = 0

    async def locate(self) -> Address:
        self.asked += 1
        if self.engine is None:
            raise LeaderUnknown("no engine has led yet")
        return HOST, self.engine.port


@contextlib.asynccontextmanager
async def connected(
    engine: TinyEngine, times: EngineTimes = TIMES
) -> AsyncIterator[tuple[EngineClient, Registry]]:
    registry = Registry(engine)
    client = EngineClient(locate=registry.locate, times=times)
    async with engine.serving(), client.running(), asyncio.timeout(DEADLINE_SECONDS):
        await until(client.is_connected)
        yield client, registry


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            if happened():
                return
            await asyncio.sleep(0.005)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await story()

    asyncio.run(told())


def test_a_keyed_command_outlives_its_connection_and_happens_once() -> None:
    async def story() -> None:
        engine = TinyEngine()
        async with connected(engine) as (client, _):
            engine.is_mute = True
            before = len(engine.log)
            asked = [
                asyncio.create_task(client.submit(deposit(f"r{n}"), key=f"k{n}", trace=f"t{n}"))
                for n in range(50)
            ]
            await until(lambda: len(engine.requests) == 50)
            engine.is_mute = False
            engine.cut()
            replies = await asyncio.gather(*asked)
            again = engine.requests[50:]
        assert all(isinstance(reply, Accepted) and reply.is_repeat for reply in replies)
        assert [(request.key, request.trace) for request in again] == [
            (f"k{n}", f"t{n}") for n in range(50)
        ]
        booked = [event for event in engine.log[before:] if hasattr(event, "reference")]
        assert len(booked) == 50

    run(story)


def test_a_command_without_a_key_is_never_sent_twice() -> None:
    async def story() -> None:
        engine = TinyEngine()
        async with connected(engine) as (client, _):
            engine.is_mute = True
            asked = asyncio.create_task(client.submit(deposit("r")))
            await until(lambda: bool(engine.requests))
            engine.is_mute = False
            engine.cut()
            with pytest.raises(EngineUnavailable) as failed:
                await asked
            assert failed.value.outcome == "unknown"
            await client.submit(deposit("other"))
            assert [request.command for request in engine.requests] == [
                deposit("r"),
                deposit("other"),
            ]

    run(story)


def test_a_paused_leader_is_left_when_another_leads() -> None:
    async def story() -> None:
        paused = TinyEngine()
        async with connected(paused) as (client, registry):
            paused.is_mute = True
            asked = asyncio.create_task(client.submit(deposit("r"), key="k"))
            await until(lambda: bool(paused.requests))
            # Silent, but it still leads: it is asked about and kept.
            seen = registry.asked
            await until(lambda: registry.asked >= seen + 3)
            assert not asked.done()
            leader = paused.successor()
            async with leader.serving():
                registry.engine = leader
                reply = await asked
                assert isinstance(reply, Accepted)
                assert reply.is_repeat
                assert len(leader.requests) == 1
                await client.submit(deposit("r2"), key="k2")
                assert len(leader.requests) == 2

    run(story)


def test_a_connection_that_stays_silent_is_given_up_in_the_end() -> None:
    async def story() -> None:
        engine = TinyEngine()
        times = EngineTimes(silence_max=0.05, silence_last=0.2, retry_first=0.01)
        async with connected(engine, times) as (client, _):
            engine.is_mute = True
            asked = asyncio.create_task(client.submit(deposit("r"), key="k"))
            await until(lambda: bool(engine.requests))
            engine.is_mute = False  # what was asked on the old connection is never answered
            assert isinstance(await asked, Accepted)
            assert len(engine.requests) == 2

    run(story)


def test_an_idle_connection_is_left_alone() -> None:
    async def story() -> None:
        times = EngineTimes(silence_max=0.02, silence_last=0.05)
        engine = TinyEngine()
        async with connected(engine, times) as (client, registry):
            began = asyncio.get_running_loop().time()
            await until(lambda: asyncio.get_running_loop().time() > began + 0.3)
            assert client.is_connected()
            assert registry.asked == 1

    run(story)


def test_no_answer_in_time_is_unknown_with_a_key_too() -> None:
    async def story() -> None:
        engine = TinyEngine()
        times = EngineTimes(answer_max=0.2)
        async with connected(engine, times) as (client, _):
            engine.is_mute = True
            with pytest.raises(EngineUnavailable) as failed:
                await client.submit(deposit("r"), key="k")
            assert failed.value.outcome == "unknown"

    run(story)


def test_nobody_leads_then_somebody_does() -> None:
    async def story() -> None:
        engine, registry = TinyEngine(), Registry(None)
        client = EngineClient(locate=registry.locate, times=TIMES)
        async with client.running(), engine.serving(), asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(EngineUnavailable) as failed:
                await client.submit(deposit("r"), key="k")
            assert failed.value.outcome == "not_sent"
            assert engine.requests == []
            asked = asyncio.create_task(client.submit(deposit("r"), key="k"))
            registry.engine = engine
            assert isinstance(await asked, Accepted)

    run(story)


def test_a_reused_key_is_refused_and_a_repeat_says_so() -> None:
    async def story() -> None:
        async with connected(TinyEngine()) as (client, _):
            first = await client.submit(deposit("r"), key="k")
            again = await client.submit(deposit("r"), key="k")
            assert isinstance(first, Accepted)
            assert isinstance(again, Accepted)
            assert (again.events, again.last_position) == (first.events, first.last_position)
            assert (first.is_repeat, again.is_repeat) == (False, True)
            reused = await client.submit(deposit("r", amount=5), key="k")
            assert isinstance(reused, Refused)
            assert reused.rejection.code == RejectionCode.IDEMPOTENCY_KEY_REUSED

    run(story)


def test_too_many_commands_in_flight_are_not_sent() -> None:
    async def story() -> None:
        engine = TinyEngine()
        async with connected(engine) as (client, _):
            engine.is_mute = True
            asked = [
                asyncio.create_task(client.submit(deposit("r"), key=f"k{n}"))
                for n in range(OUTSTANDING_MAX)
            ]
            await until(lambda: len(engine.requests) == OUTSTANDING_MAX)
            with pytest.raises(EngineUnavailable) as failed:
                await client.submit(deposit("r"), key="one too many")
            assert failed.value.outcome == "not_sent"
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    run(story)


def test_a_digest_is_asked_for_like_a_command() -> None:
    async def story() -> None:
        engine = TinyEngine()
        async with connected(engine) as (client, _):
            assert (await client.digest()).position == len(engine.log)

    run(story)


def test_a_request_that_the_engine_cannot_read_fails_alone() -> None:
    async def story() -> None:
        engine = TinyEngine()
        async with connected(engine) as (client, _):
            with pytest.raises(EngineMisread):
                await client.submit(deposit("r"), key="k" * 129)
            assert client.is_connected()
            assert isinstance(await client.submit(deposit("r"), key="k"), Accepted)

    run(story)


def test_nonsense_ends_the_connection_and_nothing_is_sent_again() -> None:
    async def story() -> None:
        engine = TinyEngine()
        async with connected(engine) as (client, _):
            engine.is_babbling = True
            with pytest.raises(EngineUnavailable) as failed:
                await client.submit(deposit("r"), key="k")
            assert failed.value.outcome == "unknown"
            engine.is_babbling = False
            assert isinstance(await client.submit(deposit("r2"), key="k2"), Accepted)
            assert [request.key for request in engine.requests] == ["k", "k2"]

    run(story)


def test_a_fixed_address_never_moves() -> None:
    async def story() -> None:
        locate = fixed_address(HOST, 1)
        assert [await locate(), await locate()] == [(HOST, 1)] * 2

    run(story)
