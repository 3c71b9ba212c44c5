"""gateway.cancelling: tasks end even if they swallow a cancellation, as a driver may."""

import asyncio

import pytest

from gateway import cancelling
from gateway.cancelling import end_all


def test_a_swallowed_cancellation_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "AGAIN_SECONDS", 0.01)
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    async def story() -> None:
        task = asyncio.create_task(stubborn())
        await asyncio.wait([task], timeout=0.01)
        await end_all([task])
        assert task.cancelled()

    asyncio.run(story())
    assert swallowed == 3


def test_what_tasks_raise_is_dropped_and_none_is_fine() -> None:
    async def failing() -> None:
        raise ValueError

    async def story() -> None:
        await end_all([])
        task = asyncio.create_task(failing())
        await asyncio.wait([task])
        await end_all([task])

    asyncio.run(story())
