"""gateway.stream.pump: all are flushed once a sweep, nobody is always last, the loop goes on."""

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from gateway.stream.pump import SLICE, Pump


class Recorder:
    """A sender that writes its number down."""

    def __init__(self, number: int, flushed: list[int]) -> None:
        self._number = number
        self._flushed = flushed

    def flush(self) -> None:
        self._flushed.append(self._number)


def pumped(story: Callable[[Pump], Awaitable[None]], swept: list[float] | None = None) -> None:
    async def told() -> None:
        pump = Pump((swept if swept is not None else []).append, gather_seconds=0)
        running = asyncio.create_task(pump.run())
        await story(pump)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(told())


@given(st.lists(st.integers(1, 4 * SLICE), min_size=1, max_size=5))
def test_each_is_flushed_once_in_every_sweep(sizes: list[int]) -> None:
    async def story(pump: Pump) -> None:
        for size in sizes:
            flushed: list[int] = []
            for number in range(size):
                pump.add(Recorder(number, flushed))
            await pump.settled()
            assert sorted(flushed) == list(range(size))

    pumped(story)


def test_sweeps_begin_elsewhere_each_time() -> None:
    firsts: list[int] = []

    async def story(pump: Pump) -> None:
        for _ in range(4):
            flushed: list[int] = []
            for number in range(4 * SLICE):
                pump.add(Recorder(number, flushed))
            await pump.settled()
            firsts.append(flushed[0])

    pumped(story)
    assert sorted(firsts) == [0, SLICE, 2 * SLICE, 3 * SLICE]


def test_others_have_their_turn_between_slices_and_what_they_add_is_sent_too() -> None:
    swept: list[float] = []

    async def story(pump: Pump) -> None:
        flushed: list[int] = []
        for number in range(3 * SLICE):
            pump.add(Recorder(number, flushed))
        turns: list[int] = []
        added = False
        while len(flushed) < 3 * SLICE:
            if turns[-1:] != [len(flushed)]:
                turns.append(len(flushed))
            if len(turns) == 2 and not added:
                added = True
                pump.add(Recorder(-1, flushed))
            await asyncio.sleep(0)
        assert {0, SLICE, 2 * SLICE} <= set(turns)
        await pump.settled()
        assert flushed[-1] == -1

    pumped(story, swept)
    assert len(swept) == 2


def test_it_settles_although_others_keep_adding() -> None:
    """Or a crowd that keeps asking would hold up the feeds, which wait for it."""

    async def story(pump: Pump) -> None:
        flushed: list[int] = []
        is_over = False

        async def crowd() -> None:
            while not is_over:
                pump.add(Recorder(-1, flushed))
                await asyncio.sleep(0)

        crowding = asyncio.create_task(crowd())
        for number in range(3):
            pump.add(Recorder(number, flushed))
            async with asyncio.timeout(5):
                await pump.settled()
            assert number in flushed
        is_over = True
        await crowding

    pumped(story)


def test_nothing_to_send_is_settled() -> None:
    async def story(pump: Pump) -> None:
        async with asyncio.timeout(5):
            await pump.settled()

    pumped(story)
