"""Withdrawals over HTTP with a real database: who may do what, and what becomes of the money."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from schemas.commands import FreezeAccount
from schemas.events import FundsDeposited, FundsWithdrawn
from tests.fixtures._desk import desk_url
from tests.fixtures._gateway_line import Line, running_line
from tests.fixtures._http_client import Client

pytestmark = pytest.mark.services
PATH = "/v1/withdrawals"
IBAN = "DE89 3704 0044 0532 0130 00"
BODY = {"asset": "CNY", "amount": "250", "destination": IBAN}
FUNDS = "1000000.00000000"
OPERATOR = {"who": "olga", "role": "operator"}
PAID = {"payout_reference": "SEPA-1"}

Story = Callable[[Client], Awaitable[None]]


def run(view_redis: str, directory: Path, database: str, story: Story) -> None:
    async def told() -> None:
        async with (
            running_line(view_redis, directory, ("trading",), desk_url=database) as line,
            httpx.AsyncClient() as http,
        ):
            line.fund("ann", "bob")
            await line.views.project()
            await story(Client(line, http, "trading"))

    asyncio.run(told())


@pytest.fixture
def desk(empty_database: str) -> str:
    return desk_url(empty_database)


async def balance(client: Client, user_id: str) -> str:
    await client.line.views.project()
    page = await client.ask("GET", "/v1/balances", who=user_id)
    found: str = next(held["available"] for held in page["items"] if held["asset"] == "CNY")
    return found


async def requested(client: Client, user_id: str = "ann", **changed: Any) -> dict[str, Any]:
    return await client.ask("POST", PATH, who=user_id, body={**BODY, **changed})


def booked(line: Line) -> list[FundsWithdrawn | FundsDeposited]:
    """What left and came back since the users were funded."""
    return [
        event
        for event in line.engine.log
        if isinstance(event, FundsWithdrawn | FundsDeposited) and event.reference.startswith("w_")
    ]


def test_an_amount_leaves_at_once_and_is_paid_out_by_another_person(
    view_redis: str, tmp_path: Path, desk: str
) -> None:
    async def story(client: Client) -> None:
        asked = await requested(client)
        assert (asked["state"], asked["position"]) == ("pending", len(client.line.engine.log))
        assert await balance(client, "ann") == "999750.00000000"
        one = f"{PATH}/{asked['withdrawal_id']}"
        assert await client.ask("GET", one, who="ann") == asked
        assert await client.refused("GET", one, who="bob") == (404, "unknown_withdrawal")
        approve = f"{one}/approve"
        assert await client.refused("POST", approve, who="ann", body=PAID) == (403, "forbidden")
        own = await client.refused("POST", approve, who="ann", role="operator", body=PAID)
        assert own == (403, "same_person")
        paid = await client.ask("POST", approve, **OPERATOR, body=PAID)
        assert (paid["state"], paid["decided_by"], paid["payout_reference"]) == (
            "approved",
            "olga",
            "SEPA-1",
        )
        again = await client.refused("POST", approve, **OPERATOR, body=PAID)
        assert again == (409, "already_decided")
        late = await client.refused("DELETE", one, who="ann")
        assert late == (409, "already_decided")
        assert [type(event) for event in booked(client.line)] == [FundsWithdrawn]

    run(view_redis, tmp_path, desk, story)


def test_a_rejected_and_a_cancelled_one_come_back(
    view_redis: str, tmp_path: Path, desk: str
) -> None:
    async def story(client: Client) -> None:
        rejected, cancelled = await requested(client), await requested(client, amount="1")
        path = f"{PATH}/{rejected['withdrawal_id']}/reject"
        back = await client.ask("POST", path, **OPERATOR, body={"reason": "wrong name"})
        assert (back["state"], back["reason"]) == ("returned", "wrong name")
        assert back["returned_position"] == len(client.line.engine.log)
        path = f"{PATH}/{cancelled['withdrawal_id']}"
        taken_back = await client.ask("DELETE", path, who="ann")
        assert (taken_back["state"], taken_back["decided_by"]) == ("returned", "ann")
        assert await balance(client, "ann") == FUNDS
        assert len(booked(client.line)) == 4

    run(view_redis, tmp_path, desk, story)


def test_what_the_ledger_refuses_is_refused_once(
    view_redis: str, tmp_path: Path, desk: str
) -> None:
    async def story(client: Client) -> None:
        asked: dict[str, Any] = {"who": "ann", "body": {**BODY, "amount": "1000001"}, "key": "k"}
        first = await client.call("POST", PATH, **asked)
        assert (first.status_code, first.json()["code"]) == (422, "insufficient_funds")
        details = first.json()["details"]
        assert (details["needed"], details["available"]) == ("1000001.00000000", FUNDS)
        again = await client.call("POST", PATH, **asked)
        assert again.json() == first.json()
        (kept,) = (await client.ask("GET", PATH, who="ann", state="refused"))["items"]
        assert (kept["code"], kept["withdrawal_id"]) == (
            "insufficient_funds",
            details["withdrawal_id"],
        )
        client.line.engine.accept(FreezeAccount(user_id="ann", reason="asked"))
        frozen = await client.refused("POST", PATH, who="ann", body=BODY)
        assert frozen == (422, "account_frozen")
        assert booked(client.line) == []

    run(view_redis, tmp_path, desk, story)


def test_many_retries_at_once_have_one_effect(view_redis: str, tmp_path: Path, desk: str) -> None:
    async def story(client: Client) -> None:
        async def all_alike(method: str, path: str, **rest: Any) -> dict[str, Any]:
            answers = await asyncio.gather(
                *(client.call(method, path, key="k", **rest) for _ in range(50))
            )
            assert {answer.status_code for answer in answers} <= {200, 201}
            assert len({answer.text for answer in answers}) == 1
            found: dict[str, Any] = answers[0].json()
            return found

        asked = await all_alike("POST", PATH, who="ann", body=BODY)
        one = f"{PATH}/{asked['withdrawal_id']}"
        await all_alike("POST", f"{one}/reject", **OPERATOR, body={"reason": "no"})
        assert len(booked(client.line)) == 2
        assert await all_alike("POST", PATH, who="ann", body=BODY) == asked
        late = await client.call("POST", PATH, who="ann", body=BODY, key="k")
        assert late.headers["idempotency-replayed"] == "true"
        other = await client.refused("POST", PATH, who="ann", body={**BODY, "amount": "1"}, key="k")
        assert other == (422, "idempotency_key_reused")
        assert await balance(client, "ann") == FUNDS

    run(view_redis, tmp_path, desk, story)


def test_operators_see_all_and_users_their_own(view_redis: str, tmp_path: Path, desk: str) -> None:
    async def story(client: Client) -> None:
        made = [await requested(client, user_id) for user_id in ("ann", "bob", "ann")]
        mine = await client.ask("GET", PATH, who="ann")
        assert [one["user_id"] for one in mine["items"]] == ["ann", "ann"]
        page = await client.ask("GET", PATH, **OPERATOR, all_users="true", state="pending", limit=2)
        assert page["items"] == made[:0:-1]
        rest = await client.ask(
            "GET", PATH, **OPERATOR, all_users="true", limit=2, cursor=page["next_cursor"]
        )
        assert (rest["items"], rest["next_cursor"]) == (made[:1], None)
        curious = await client.refused("GET", PATH, who="ann", all_users="true")
        assert curious == (403, "forbidden")
        theirs = await client.ask("GET", PATH, **OPERATOR, user_id="bob")
        assert theirs["items"] == [made[1]]

    run(view_redis, tmp_path, desk, story)


def test_a_frozen_accounts_withdrawal_is_not_paid_out(
    view_redis: str, tmp_path: Path, desk: str
) -> None:
    async def story(client: Client) -> None:
        asked = await requested(client)
        client.line.engine.accept(FreezeAccount(user_id="ann", reason="suspicious"))
        await client.line.views.project()
        path = f"{PATH}/{asked['withdrawal_id']}"
        refused = await client.refused("POST", f"{path}/approve", **OPERATOR, body=PAID)
        assert refused == (422, "account_frozen")
        body = {"reason": "account frozen"}
        back = await client.ask("POST", f"{path}/reject", **OPERATOR, body=body)
        assert back["state"] == "returned"
        assert await balance(client, "ann") == FUNDS

    run(view_redis, tmp_path, desk, story)


def test_what_staff_do_is_recorded(view_redis: str, tmp_path: Path, desk: str) -> None:
    async def story(client: Client) -> None:
        asked = await client.ask("POST", PATH, **OPERATOR, body={**BODY, "user_id": "ann"})
        path = f"{PATH}/{asked['withdrawal_id']}"
        own = await client.refused("POST", f"{path}/approve", **OPERATOR, body=PAID)
        assert own == (403, "same_person")
        await client.ask("DELETE", path, **OPERATOR)
        await requested(client)
        with psycopg.connect(desk) as connection:
            rows = connection.execute("SELECT who, action, target FROM records ORDER BY id")
            assert rows.fetchall() == [
                ("olga", "withdrawal.requested", "user:ann"),
                ("olga", "withdrawal.cancelled", "user:ann"),
            ]

    run(view_redis, tmp_path, desk, story)


def test_nobody_books_a_deposit_for_oneself(view_redis: str, tmp_path: Path, desk: str) -> None:
    async def story(client: Client) -> None:
        body = {"user_id": "olga", "asset": "CNY", "amount": "5", "reference": "r"}
        refused = await client.refused("POST", "/v1/deposits", **OPERATOR, body=body)
        assert refused == (403, "same_person")
        of_a_withdrawal = {**body, "user_id": "ann", "reference": f"w_{'0' * 32}:returned"}
        refused = await client.refused("POST", "/v1/deposits", **OPERATOR, body=of_a_withdrawal)
        assert refused == (422, "invalid_id")

    run(view_redis, tmp_path, desk, story)


def test_one_that_the_ledger_cannot_be_asked_for_is_carried_on_with(
    view_redis: str, tmp_path: Path, desk: str
) -> None:
    async def story(client: Client) -> None:
        client.line.engine.is_mute = True
        asked = await client.ask("POST", PATH, who="ann", body=BODY, key="k")
        assert asked["state"] == "requested"
        client.line.engine.is_mute = False
        again = await client.ask("POST", PATH, who="ann", body=BODY, key="k")
        assert again["withdrawal_id"] == asked["withdrawal_id"]
        assert again["state"] == "pending"
        assert len(booked(client.line)) == 1

    run(view_redis, tmp_path, desk, story)


def test_destinations_stay_in_this_database(
    view_redis: str, tmp_path: Path, desk: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(client: Client) -> None:
        asked = await client.ask("POST", PATH, who="ann", body=BODY, key="k")
        path = f"{PATH}/{asked['withdrawal_id']}/reject"
        await client.ask("POST", path, **OPERATOR, body={"reason": "no"})
        assert IBAN not in "".join(map(str, client.line.engine.log))
        assert IBAN not in "".join(map(str, client.line.engine.requests))
        assert IBAN not in caplog.text
        with psycopg.connect(desk) as connection:
            for table in ("records", "first_answers"):
                rows = connection.execute(f"SELECT * FROM {table}".encode()).fetchall()
                assert rows
                assert IBAN not in str(rows)

    run(view_redis, tmp_path, desk, story)


def test_the_database_holds_the_rules_itself(desk: str) -> None:
    with psycopg.connect(desk, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO withdrawals (withdrawal_id, user_id, requested_by, asset_id,"
            " amount_minor, destination, trace) VALUES ('w', 'ann', 'ann', 'CNY', 5, 'there', '')"
        )
        for wrong in (
            "SET state = 'approved', decided_by = 'olga', payout_reference = 'p'",
            "SET state = 'returned', decided_by = 'olga'",
            "SET amount_minor = 6",
            "SET user_id = 'bob'",
        ):
            with pytest.raises(psycopg.Error):
                connection.execute(f"UPDATE withdrawals {wrong}".encode())
        connection.execute("UPDATE withdrawals SET state = 'pending', position = 7")
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(
                "UPDATE withdrawals SET state = 'approved', decided_by = 'ann',"
                " payout_reference = 'p'"
            )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM withdrawals")
