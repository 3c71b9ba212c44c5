"""What was begun is carried out, whatever is away or busy meanwhile."""

import asyncio

import pytest

from gateway.administration.execution import carry_out, finish_once
from gateway.desk.changes import DisableUser
from gateway.errors import Refusal
from schemas.commands import HaltMarket
from schemas.events import MarketHalted
from tests.fixtures._engine_port import EnginePort, resources_of
from tests.fixtures.desk import DeskDatabase, actor, running_desk
from tests.fixtures.tiny_engine import TinyEngine

pytestmark = pytest.mark.services
HALT = HaltMarket(market_id="DUR-CNY", reason="incident")


def halts(port: EnginePort) -> int:
    return sum(isinstance(event, MarketHalted) for event in port.engine.log)


def test_busy_engine_is_asked_again(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            port = EnginePort(TinyEngine())
            resources = resources_of(desk, port)
            intent = await desk.intents.begin(actor("ann", "k", b"halt"), HALT)
            port.is_busy = True
            with pytest.raises(Refusal) as caught:
                await carry_out(resources, intent)
            assert caught.value.code == "overloaded"
            assert await finish_once(resources, older_than_seconds=0) == 0
            port.is_busy = False
            assert await finish_once(resources, older_than_seconds=0) == 1
            again = await desk.intents.begin(actor("ann", "k", b"halt"), HALT)
            assert again.answer is not None and again.answer.code is None
            assert halts(port) == 1

    asyncio.run(story())


def test_accounts_that_are_away_do_not_hold_up_the_ledger(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            port = EnginePort(TinyEngine())
            waiting = await desk.intents.begin(actor("ann"), DisableUser(user_id="eve"))
            await desk.intents.begin(actor("ann"), HALT)
            assert await finish_once(resources_of(desk, port), older_than_seconds=0) == 1
            assert halts(port) == 1
            assert await desk.intents.answer(waiting.record_id) is None

    asyncio.run(story())


def test_lost_answer_is_asked_for_under_the_same_key(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            port = EnginePort(TinyEngine())
            port.is_lossy = True
            await desk.intents.begin(actor("ann"), HALT)
            assert await finish_once(resources_of(desk, port), older_than_seconds=0) == 0
            port.is_lossy = False
            assert await finish_once(resources_of(desk, port), older_than_seconds=0) == 1
            assert halts(port) == 1
            assert (await desk.records.verify()).holds

    asyncio.run(story())


def test_target_has_one_open_change_and_none_from_an_old_view(
    desk_database: DeskDatabase,
) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            intents, port = desk.intents, EnginePort(TinyEngine())
            intent = await intents.begin(actor("ann"), HALT, based_on=0)
            with pytest.raises(Refusal) as caught:
                await intents.begin(actor("ben"), HALT)
            assert caught.value.code == "change_in_progress"
            answer = await carry_out(resources_of(desk, port), intent)
            assert await intents.position("market:DUR-CNY") == answer.position
            with pytest.raises(Refusal) as caught:
                await intents.begin(actor("ben"), HALT, based_on=0)
            assert caught.value.code == "change_in_progress"

    asyncio.run(story())
