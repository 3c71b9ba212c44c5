"""What an append stores besides events, and the tail that reads it: one suite for twin and real."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from eventsourcing.persistence import StoredEvent

from engine.errors import Fenced, StoreUnavailable
from engine.ports import AnswerBlock
from schemas.history import order_key, stream_key, trade_key, user_key
from tests.fixtures.ledger_twins import Ledger

pytestmark = pytest.mark.services
DEADLINE_SECONDS = 30.0


def _events(*streams: str, version: int = 1) -> list[StoredEvent]:
    return [StoredEvent(stream, version, "t:1", stream.encode()) for stream in streams]


def _block(number: int) -> AnswerBlock:
    return AnswerBlock(number, 1_000 + number, b"answers %d" % number)


def _run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, DEADLINE_SECONDS))


def test_answers_are_stored_with_their_batch_and_read_in_order(ledger: Ledger) -> None:
    async def scene() -> None:
        log = ledger.open_log()
        await log.elect("a:1")
        async with ledger.open_tail() as tail:
            assert list(await tail.answers_page(0, 10)) == []
            for number in range(1, 6):
                await log.append(_events(f"s{number}"), answers=_block(number))
            await log.append(_events("s6"))
            assert list(await tail.answers_page(0, 2)) == [_block(1), _block(2)]
            assert list(await tail.answers_page(2, 10)) == [_block(3), _block(4), _block(5)]
            assert list(await tail.answers_page(5, 10)) == []
            assert (await tail.head()).position == 6

    _run(scene())


def test_answers_without_events_are_stored_and_move_nothing(ledger: Ledger) -> None:
    async def scene() -> None:
        log = ledger.open_log()
        head = await log.elect("a:1")
        assert await log.append([], answers=_block(1)) == head
        async with ledger.open_tail() as tail:
            assert list(await tail.answers_page(0, 10)) == [_block(1)]

    _run(scene())


def test_a_stale_leader_stores_neither_answers_nor_history(ledger: Ledger) -> None:
    async def scene() -> None:
        stale, leader = ledger.open_log(), ledger.open_log()
        await stale.elect("a:1")
        leader.lead()
        for events, history in ((_events("s"), [(order_key(1), 0)]), ([], [])):
            with pytest.raises(Fenced):
                await stale.append(events, history, _block(1))
        async with ledger.open_tail() as tail:
            assert list(await tail.answers_page(0, 10)) == []
        assert ledger.history() == set()

    _run(scene())


def test_a_batch_whose_answers_are_refused_is_not_stored(ledger: Ledger) -> None:
    async def scene() -> None:
        log = ledger.open_log()
        await log.elect("a:1")
        head = await log.append(_events("s"), answers=_block(1))
        with pytest.raises(StoreUnavailable):
            await log.append(_events("o"), [(order_key(1), 0)], _block(1))
        assert (await log.elect("a:1")).position == head.position
        assert [logged.stream_id for logged in log.read()] == ["s"]
        assert ledger.history() == {(stream_key("s"), 1)}

    _run(scene())


def test_old_answers_are_forgotten(ledger: Ledger) -> None:
    async def scene() -> None:
        log = ledger.open_log()
        await log.elect("a:1")
        for number in range(1, 6):
            await log.append([], answers=_block(number))
        async with ledger.open_writers_tail() as tail:
            await tail.forget_answers(1_004)
            assert list(await tail.answers_page(0, 10)) == [_block(4), _block(5)]
            await tail.forget_answers(0)
            assert len(await tail.answers_page(0, 10)) == 2
            await tail.forget_answers(9_999)
            assert list(await tail.answers_page(0, 10)) == []

    _run(scene())


def test_every_event_is_found_by_its_stream_and_by_the_keys_given(ledger: Ledger) -> None:
    async def scene() -> None:
        log = ledger.open_log()
        await log.elect("a:1")
        await log.append(_events("user:x", "mining"))
        keys = [(trade_key(7), 1), (user_key("x"), 1), (order_key(3), 0)]
        await log.append(_events("user:y", "market:m"), keys)
        assert ledger.history() == {
            (user_key("x"), 1),
            (stream_key("mining"), 2),
            (user_key("y"), 3),
            (order_key(3), 3),
            (stream_key("market:m"), 4),
            (trade_key(7), 4),
            (user_key("x"), 4),
        }

    _run(scene())


def test_the_tail_waits_for_events_and_for_answers(ledger: Ledger) -> None:
    async def scene() -> None:
        loop, log = asyncio.get_running_loop(), ledger.open_log()
        await log.elect("a:1")
        async with ledger.open_tail() as tail:
            await tail.wait(0.2)  # what the election changed
            started = loop.time()
            await tail.wait(0.2)
            assert loop.time() - started >= 0.15
            for events, answers in ((_events("s"), None), ([], _block(1))):
                waiting = asyncio.create_task(tail.wait(DEADLINE_SECONDS))
                await log.append(events, answers=answers)
                await waiting
            assert loop.time() - started < DEADLINE_SECONDS / 2
            await log.append([])  # keeping alive wakes nobody
            started = loop.time()
            await tail.wait(0.2)
            assert loop.time() - started >= 0.15

    _run(scene())
