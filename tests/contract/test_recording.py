"""What staff have the ledger do is in the record of who did what; what users do is not."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from gateway.desk.records import RecordFilter
from ops.desk_access import desk
from schemas.wire_administration import AdminRecord
from tests.fixtures._gateway_line import Line, running_line
from tests.fixtures._service_client import ServiceClient
from tests.fixtures.service_databases import ServiceDatabases

pytestmark = pytest.mark.services

OSCAR, ALICE = ("oscar", "operator"), ("alice", "user")
Story = Callable[["Services"], Awaitable[None]]


class Services:
    def __init__(self, line: Line, http: httpx.AsyncClient) -> None:
        self.line = line
        self.trading = ServiceClient(line, http, "trading")
        self.mining = ServiceClient(line, http, "mining")

    async def records(self) -> tuple[AdminRecord, ...]:
        async with desk(self.line.config) as found:
            return (await found.records.page(RecordFilter(), 100)).items


@pytest.fixture
def run(
    view_redis: str, tmp_path: Path, service_databases: ServiceDatabases
) -> Callable[..., None]:
    def run_story(story: Story, **settings: str) -> None:
        async def whole() -> None:
            used = {**service_databases.settings(), **settings}
            async with (
                running_line(view_redis, tmp_path, ["trading", "mining"], **used) as line,
                httpx.AsyncClient(timeout=20.0) as http,
            ):
                line.fund("alice")
                line.engine.pass_seconds(10)
                await line.views.project()
                await story(Services(line, http))

        asyncio.run(whole())

    return run_story


def deposit(**changes: str) -> dict[str, str]:
    return {"user_id": "alice", "asset": "CNY", "amount": "5", "reference": "r1", **changes}


def test_a_deposit_names_the_operator_before_and_after(run: Callable[..., None]) -> None:
    async def story(services: Services) -> None:
        made = await services.trading.ask("POST", "/v1/deposits", OSCAR, json=deposit())
        assert made.status_code == 201
        intent, outcome = await services.records()
        assert (intent.who, intent.action, intent.target) == (
            "oscar",
            "deposit_funds",
            "user:alice",
        )
        assert (intent.phase, intent.details["reference"]) == ("intent", "r1")
        assert (outcome.phase, outcome.outcome, outcome.intent_id) == (
            "outcome",
            "accepted",
            intent.id,
        )
        assert outcome.details["position"] == made.json()["position"]
        assert intent.request_id == outcome.request_id == made.headers["x-request-id"]

    run(story)


def test_a_refused_act_is_recorded_as_refused(run: Callable[..., None]) -> None:
    async def story(services: Services) -> None:
        path = "/v1/mining/settle"
        answer = await services.mining.ask("POST", path, OSCAR, json={"user_id": "nobody"})
        assert answer.json()["code"] == "unknown_account"
        _, outcome = await services.records()
        assert (outcome.outcome, outcome.details["code"]) == ("refused", "unknown_account")

    run(story)


def test_what_users_do_for_themselves_is_not_recorded(run: Callable[..., None]) -> None:
    async def story(services: Services) -> None:
        settled = await services.mining.ask("POST", "/v1/mining/settle", ALICE)
        assert settled.status_code == 200
        assert await services.records() == ()

    run(story)


def test_nothing_is_asked_of_the_ledger_that_cannot_be_recorded(run: Callable[..., None]) -> None:
    async def story(services: Services) -> None:
        position = len(services.line.engine.log)
        answer = await services.trading.ask("POST", "/v1/deposits", OSCAR, json=deposit())
        assert (answer.status_code, answer.json()["code"]) == (503, "desk_unavailable")
        assert len(services.line.engine.log) == position

    run(story, desk_url="postgresql://durian_desk:desk@127.0.0.1:1/away")
