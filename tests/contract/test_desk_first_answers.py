"""Keys of commands that end in PostgreSQL: one effect, one answer, whatever is sent at once."""

import asyncio

import msgspec
import pytest

from gateway.database import Connection
from gateway.desk.desk import Desk
from gateway.desk.records import Entry, append
from gateway.errors import Refusal
from gateway.first_answers import Asked, once
from tests.fixtures.desk import DeskDatabase, running_desk

pytestmark = pytest.mark.services


class Told(msgspec.Struct, frozen=True):
    number: int


def asked(key: str = "k", body: bytes = b"b", who: str = "alice") -> Asked:
    return Asked(who=who, operation="POST /x", key=key, body=body)


class Work:
    """Writes a record; is refused, or fails, as often as told."""

    def __init__(self, *, refusals: int = 0, failures: int = 0) -> None:
        self.calls, self._refusals, self._failures = 0, refusals, failures

    async def __call__(self, connection: Connection) -> Told:
        self.calls += 1
        entry = Entry(who="a", role="r", request_id="", action="x", target="t", details={})
        number = await append(connection, entry)
        if self.calls <= self._failures:
            raise ZeroDivisionError
        if self.calls <= self._refusals:
            raise Refusal("market_halted", "No.", {"market": "M"})
        return Told(number)


async def written(desk: Desk) -> int:
    return (await desk.records.verify()).checked


def test_fifty_at_once_have_one_effect_and_one_answer(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            work = Work()
            asks = [once(desk.database, asked(), work=work, kind=Told) for _ in range(50)]
            answers = await asyncio.gather(*asks)
            assert {answer for answer, _ in answers} == {Told(1)}
            assert sum(not is_repeat for _, is_repeat in answers) == 1
            assert (work.calls, await written(desk)) == (1, 1)

    asyncio.run(story())


def test_refusal_is_an_answer_and_its_writes_are_undone(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            work = Work(refusals=1)
            for _ in range(3):
                answer, _ = await once(desk.database, asked(), work=work, kind=Told)
                assert isinstance(answer, Refusal)
                assert (answer.code, answer.details) == ("market_halted", {"market": "M"})
            assert (work.calls, await written(desk)) == (1, 0)

    asyncio.run(story())


def test_failed_work_leaves_its_key_to_the_next(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            work = Work(failures=1)
            with pytest.raises(ZeroDivisionError):
                await once(desk.database, asked(), work=work, kind=Told)
            assert await once(desk.database, asked(), work=work, kind=Told) == (Told(1), False)

    asyncio.run(story())


def test_keys_belong_to_a_body_and_to_one_user(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            work = Work()
            await once(desk.database, asked(), work=work, kind=Told)
            with pytest.raises(Refusal) as caught:
                await once(desk.database, asked(body=b"c"), work=work, kind=Told)
            assert caught.value.code == "idempotency_key_reused"
            other, _ = await once(desk.database, asked(who="bob"), work=work, kind=Told)
            assert other == Told(2)
            for number in (3, 4):
                found = await once(desk.database, asked(key=""), work=work, kind=Told)
                assert found == (Told(number), False)

    asyncio.run(story())


def test_answers_of_yesterday_are_swept_a_few_at_a_time(desk_database: DeskDatabase) -> None:
    async def story() -> None:
        async with running_desk(desk_database.url) as desk:
            work = Work()
            for number in range(30):
                await once(desk.database, asked(f"k{number}"), work=work, kind=Told)
            desk_database.change("UPDATE first_answers SET at = now() - interval '25 hours'")
            left = []
            for number in range(2):
                await once(desk.database, asked(f"new{number}"), work=work, kind=Told)
                async with desk.database.transaction() as connection:
                    counted = await connection.execute("SELECT count(*) FROM first_answers")
                    left.append(await counted.fetchone())
            assert left == [(11,), (2,)]

    asyncio.run(story())
