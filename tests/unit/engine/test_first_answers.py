"""Keys: an effect happens once, and whoever asks again gets the first answer, restarts or not."""

import asyncio

from engine.answers import FirstAnswers
from engine.memory import MemoryStore
from engine.outcomes import Stored
from schemas import commands, frames
from schemas.events import FundsDeposited
from schemas.rejections import Rejection, RejectionCode
from tests.unit.domain.scenario import of_kind
from tests.unit.engine.engine_line import DEADLINE_SECONDS, Line, Told, deposit, told

WITHDRAWAL = commands.WithdrawFunds(user_id="alice", asset_id="CNY", amount_minor=50, reference="w")


async def _asked(line: Line, command: commands.LedgerCommand, key: str) -> Told:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await line.request(command, key)


def test_a_repeat_gets_the_first_answer_and_changes_nothing() -> None:
    async def story() -> None:
        async with Line().running() as line:
            first = await _asked(line, deposit("r"), "k")
            length = len(line.events)
            again = await _asked(line, deposit("r"), "k")
            assert not first.is_repeat
            assert again == Told(first.outcome, is_repeat=True)
            assert isinstance(first.outcome, Stored)
            assert len(line.events) == length

    told(story())


def test_a_refusal_is_a_first_answer_too_even_when_it_would_be_accepted_now() -> None:
    async def story() -> None:
        async with Line().running() as line:
            refused = await _asked(line, WITHDRAWAL, "k")
            assert isinstance(refused.outcome, Rejection)
            await line.ask(deposit("r"))
            assert await _asked(line, WITHDRAWAL, "k") == Told(refused.outcome, is_repeat=True)
            accepted = await _asked(line, WITHDRAWAL, "another")
            assert isinstance(accepted.outcome, Stored)

    told(story())


def test_the_same_key_with_another_body_is_refused() -> None:
    async def story() -> None:
        async with Line().running() as line:
            await _asked(line, deposit("r", amount=100), "k")
            other = await _asked(line, deposit("r", amount=101), "k")
            assert other == Told(Rejection(RejectionCode.IDEMPOTENCY_KEY_REUSED), is_repeat=False)
            assert len(of_kind(line.events, FundsDeposited)) == 1

    told(story())


def test_repeats_of_a_command_still_on_its_way_wait_for_it() -> None:
    async def story() -> None:
        async with Line().running() as line, asyncio.timeout(DEADLINE_SECONDS):
            asked = [line.request(deposit("r"), "k") for _ in range(20)]
            first, *others = await asyncio.gather(*asked)
            assert others == [Told(first.outcome, is_repeat=True)] * 19
            assert len(of_kind(line.events, FundsDeposited)) == 1

    told(story())


def test_first_answers_outlive_the_engine() -> None:
    store = MemoryStore()

    async def story() -> None:
        async with Line(store).running() as line:
            accepted = await _asked(line, deposit("r"), "a")
            refused = await _asked(line, commands.SettleAccrual(user_id="alice"), "r")
            await _asked(line, deposit("r2"), "b")
        later = Line(store)
        async with later.running():
            assert await _asked(later, deposit("r"), "a") == Told(accepted.outcome, is_repeat=True)
            assert await _asked(later, commands.SettleAccrual(user_id="alice"), "r") == Told(
                refused.outcome, is_repeat=True
            )
            new = await _asked(later, deposit("r3"), "c")
            assert not new.is_repeat
        assert [block.id for block in store.answers] == [1, 2, 3, 4]

    told(story())


def test_refusals_alone_are_committed_and_pass_the_fence() -> None:
    store = MemoryStore()

    async def story() -> None:
        async with Line(store).running() as line:
            length = len(line.events)
            await _asked(line, commands.SettleAccrual(user_id="nobody"), "k")
            assert len(line.events) == length
            assert len(store.answers) == 1

    told(story())


def test_overload_is_not_remembered() -> None:
    async def story() -> None:
        line = Line()
        line.standby.answers = FirstAnswers(most=1)
        async with line.running():
            first = await _asked(line, deposit("r"), "k")
            refused = await _asked(line, deposit("r2"), "k2")
            assert refused.outcome == Rejection(RejectionCode.OVERLOADED, {"answers_remembered": 1})
            assert await _asked(line, deposit("r"), "k") == Told(first.outcome, is_repeat=True)
            # Without a key there is nothing to remember.
            assert isinstance(await line.ask(deposit("r2")), Stored)

    told(story())


def test_advancing_the_clock_again_is_harmless_too() -> None:
    async def story() -> None:
        async with Line().running() as line:
            to_ns = line.sequencer.state.at_ns + 10**9
            for is_repeat in (False, True):
                answer = line.request(frames.AdvanceClock(to_ns=to_ns), "k")
                async with asyncio.timeout(DEADLINE_SECONDS):
                    assert (await answer).is_repeat == is_repeat

    told(story())
