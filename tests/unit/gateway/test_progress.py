"""gateway.progress: a crowd that waits for views costs one reader."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway import progress
from gateway.errors import Refusal, ViewsUnavailable
from gateway.progress import POSITIONS_BEHIND_MAX, Progress
from tests.fixtures._served_protocol import until

PART = ("accounts", 3)


class Checkpoint:
    """A projection that is `step` further at each read."""

    def __init__(self, step: int = 1) -> None:
        self.position = 0
        self.reads = 0
        self._step = step

    async def read(self) -> int:
        self.reads += 1
        self.position += self._step
        return self.position


def run(story: Callable[[Progress], Awaitable[None]]) -> None:
    async def told() -> None:
        async with asyncio.timeout(10):
            await story(Progress())

    asyncio.run(told())


def test_a_thousand_wait_at_the_cost_of_one() -> None:
    async def story(waiting: Progress) -> None:
        views = Checkpoint()
        reached = await asyncio.gather(
            *(waiting.reach(PART, 1 + number % 5, views.read) for number in range(1_000))
        )
        assert all(found >= 1 + number % 5 for number, found in enumerate(reached))
        assert views.reads == 5

    run(story)


def test_who_comes_later_is_answered_too() -> None:
    async def story(waiting: Progress) -> None:
        views = Checkpoint()
        first = asyncio.create_task(waiting.reach(PART, 3, views.read))
        await until(lambda: views.position >= 2)
        assert await waiting.reach(PART, 4, views.read) == 4
        assert await first == 3
        assert await waiting.reach(PART, 1, views.read) == 5

    run(story)


def test_views_that_do_not_come_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WAIT_SECONDS_MAX", 0.05)

    async def story(waiting: Progress) -> None:
        views = Checkpoint(step=0)
        assert await waiting.reach(PART, 1, views.read) == 0
        read = views.reads
        await until(lambda: not waiting._watches[PART]._waiters)
        assert views.reads <= read + 1

    run(story)


def test_views_that_are_too_far_behind_are_not_waited_for() -> None:
    async def story(waiting: Progress) -> None:
        views = Checkpoint()
        assert await waiting.reach(PART, 2 + POSITIONS_BEHIND_MAX, views.read) == 1
        assert views.reads == 1

    run(story)


def test_everybody_learns_that_views_do_not_answer() -> None:
    async def fail() -> int:
        raise ViewsUnavailable("away")

    async def story(waiting: Progress) -> None:
        found = await asyncio.gather(
            *(waiting.reach(PART, 1, fail) for _ in range(3)), return_exceptions=True
        )
        assert all(isinstance(each, ViewsUnavailable) for each in found)
        assert await waiting.reach(PART, 1, Checkpoint().read) == 1

    run(story)


def test_a_crowd_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WAITING_MAX", 2)

    async def story(waiting: Progress) -> None:
        views = Checkpoint(step=0)
        held = [asyncio.create_task(waiting.reach(PART, 1, views.read)) for _ in range(2)]
        await until(lambda: views.reads > 0)
        with pytest.raises(Refusal) as refused:
            await waiting.reach(PART, 1, views.read)
        assert refused.value.code == "too_many_requests"
        views._step = 1
        assert await asyncio.gather(*held) == [1, 1]

    run(story)


def test_many_who_ask_the_same_cost_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "ANSWER_SECONDS", 0.05)

    async def story(waiting: Progress) -> None:
        views = Checkpoint()
        assert {*await asyncio.gather(*(waiting.shared("x", views.read) for _ in range(50)))} == {1}
        assert await waiting.shared("x", views.read) == 1
        async with asyncio.timeout(5):
            while True:
                if await waiting.shared("x", views.read) == 2:
                    break
                await asyncio.sleep(0.01)
        assert views.reads == 2
        # Who gives up waiting takes the answer from nobody else.
        slow = asyncio.Event()

        async def wait() -> str:
            await slow.wait()
            return "here"

        first, second = (asyncio.create_task(waiting.shared("y", wait)) for _ in range(2))
        await until(lambda: "y" in waiting._answers)
        first.cancel()
        slow.set()
        assert await second == "here"

    run(story)
