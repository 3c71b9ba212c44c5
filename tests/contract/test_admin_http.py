"""The administration over HTTP, with real databases and views and a tiny engine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.identity.accounts import NewAccount
from ops.identity_access import identity
from schemas.events import EmissionScheduled, MarketConfigured, MarketHalted
from tests.fixtures._gateway_line import Line, running_line
from tests.fixtures._service_client import ServiceClient
from tests.fixtures.service_databases import ServiceDatabases

pytestmark = pytest.mark.services

ANN, BEN = ("ann", "admin"), ("ben", "admin")
OSCAR, ALMA = ("oscar", "operator"), ("alma", "auditor")
REASON = "decision 12"
DEADLINE_SECONDS = 60.0
Story = Callable[["Desk"], Awaitable[None]]


class Desk(ServiceClient):
    """HTTP to the administration."""

    async def done(self, method: str, path: str, who: tuple[str, str], **rest: Any) -> Any:
        """What a good answer says; the views show it afterwards."""
        answer = await self.ask(method, f"/v1/admin{path}", who, **rest)
        assert answer.is_success, answer.text
        await self.line.views.project()
        return answer.json()

    async def no(self, method: str, path: str, who: tuple[str, str], **rest: Any) -> str:
        status, code = await self.refused(method, f"/v1/admin{path}", who, **rest)
        assert 400 <= status < 500
        return code

    async def register(self, name: str) -> str:
        async with identity(self.line.config, signs=False) as (accounts, _):
            made = await accounts.create(NewAccount(user_name=name, password="correct horse"))
        return made.user_id


@contextlib.asynccontextmanager
async def administration(
    redis_url: str, directory: Path, databases: ServiceDatabases
) -> AsyncIterator[Desk]:
    async with running_line(redis_url, directory, ["admin"], **databases.settings()) as line:
        line.fund("alice", "bob")
        await line.views.project()
        async with httpx.AsyncClient(timeout=20.0) as http:
            yield Desk(line, http, "admin")


@pytest.fixture
def run(
    view_redis: str, tmp_path: Path, service_databases: ServiceDatabases
) -> Callable[[Story], None]:
    def run_story(story: Story) -> None:
        async def whole() -> None:
            async with administration(view_redis, tmp_path, service_databases) as desk:
                await story(desk)

        asyncio.run(whole())

    return run_story


def events(line: Line, kind: type) -> list[Any]:
    return [event for event in line.engine.log if isinstance(event, kind)]


def test_supply_changes_when_two_administrators_agree(run: Callable[[Story], None]) -> None:
    async def story(desk: Desk) -> None:
        second = desk.line.engine.second + 1_000
        body = {"from_second": second, "reward": "2.5", "reason": REASON}
        proposed = await desk.done("POST", "/emission", ANN, json=body)
        assert (proposed["state"], proposed["kind"]) == ("pending", "emission")
        assert proposed["proposal"] == {"from_second": second, "reward": "2.50000000"}
        number = proposed["id"]
        approve = f"/approvals/{number}/approve"
        assert await desk.no("POST", approve, ANN) == "same_person"
        for who in (OSCAR, ALMA):
            assert await desk.no("POST", approve, who) == "forbidden"
        before = len(events(desk.line, EmissionScheduled))
        answers = await asyncio.gather(*(desk.done("POST", approve, BEN) for _ in range(5)))
        assert {answer["state"] for answer in answers} == {"executed"}
        assert len(events(desk.line, EmissionScheduled)) == before + 1
        assert await desk.no("POST", approve, ("cas", "admin")) == "already_decided"
        shown = await desk.done("GET", "/emission", ALMA)
        assert {"from_second": second, "reward": "2.50000000"} in shown["schedule"]
        listed = await desk.pages("/v1/admin/records", ALMA, target="emission")
        assert [(one["who"], one["action"], one["phase"]) for one in listed] == [
            ("ann", "propose", "done"),
            ("ben", "schedule_emission", "intent"),
            ("ben", "schedule_emission", "outcome"),
        ]
        assert {one["approval_id"] for one in listed} == {number}

    run(story)


def test_ledgers_refusal_is_the_answer_of_an_approval(run: Callable[[Story], None]) -> None:
    async def story(desk: Desk) -> None:
        body = {"from_second": 1, "reward": "1", "reason": REASON}
        number = (await desk.done("POST", "/emission", ANN, json=body))["id"]
        answer = await desk.done("POST", f"/approvals/{number}/approve", BEN)
        assert (answer["state"], answer["code"]) == ("refused", "invalid_schedule")

    run(story)


def test_proposals_are_turned_down_and_taken_back(run: Callable[[Story], None]) -> None:
    async def story(desk: Desk) -> None:
        body, said = {"amount": "1", "reason": REASON}, {"reason": "no"}
        ids = [(await desk.done("PUT", "/reserve-burn", ANN, json=body))["id"] for _ in range(3)]
        rejected = await desk.done("POST", f"/approvals/{ids[0]}/reject", BEN, json=said)
        withdrawn = await desk.done("POST", f"/approvals/{ids[1]}/reject", ANN, json=said)
        assert (rejected["state"], withdrawn["state"]) == ("rejected", "withdrawn")
        assert await desk.no("POST", f"/approvals/{ids[0]}/approve", BEN) == "already_decided"
        pending = await desk.pages("/v1/admin/approvals", ALMA, state="pending")
        assert [one["id"] for one in pending] == [ids[2]]
        every = await desk.pages("/v1/admin/approvals", ALMA, limit=1)
        assert [one["id"] for one in every] == ids[::-1]
        assert await desk.no("GET", "/approvals/999", ALMA) == "unknown_approval"

    run(story)


def test_burn_of_a_market_keeps_its_other_rules(run: Callable[[Story], None]) -> None:
    async def story(desk: Desk) -> None:
        rules = {
            "maker_fee_bps": 5,
            "taker_fee_bps": 7,
            "band_bps": None,
            "min_notional": "1.5",
            "open_orders_max": 50,
        }
        body = {"burn_bps": 25, "reason": REASON}
        number = (await desk.done("PUT", "/markets/DUR-CNY/burn", ANN, json=body))["id"]
        await desk.done("PUT", "/markets/DUR-CNY/rules", ANN, json=rules)
        [configured] = events(desk.line, MarketConfigured)
        assert configured.rules.burn_bps == 10
        await desk.done("POST", f"/approvals/{number}/approve", BEN)
        [market] = (await desk.done("GET", "/markets", ALMA))["items"]
        assert market["burn_bps"] == 25
        assert {name: market[name] for name in rules} == rules | {"min_notional": "1.50000000"}

    run(story)


def test_rules_are_never_made_from_views_that_lag(run: Callable[[Story], None]) -> None:
    """Otherwise a change of fees could bring back a burn that two persons had ended."""

    async def story(desk: Desk) -> None:
        body = {"burn_bps": 0, "reason": REASON}
        number = (await desk.done("PUT", "/markets/DUR-CNY/burn", ANN, json=body))["id"]
        await desk.ask("POST", f"/v1/admin/approvals/{number}/approve", BEN)
        rules = {
            "maker_fee_bps": 5,
            "taker_fee_bps": 7,
            "band_bps": None,
            "min_notional": "0",
            "open_orders_max": 50,
        }
        assert await desk.no("PUT", "/markets/DUR-CNY/rules", ANN, json=rules) == "views_behind"
        await desk.line.views.project()
        await desk.done("PUT", "/markets/DUR-CNY/rules", ANN, json=rules)
        assert [one.rules.burn_bps for one in events(desk.line, MarketConfigured)] == [0, 0]

    run(story)


def test_market_is_opened_by_two_and_halted_by_one(run: Callable[[Story], None]) -> None:
    async def story(desk: Desk) -> None:
        body = {
            "market": "CNY-DUR",
            "base_asset": "CNY",
            "quote_asset": "DUR",
            "tick_size": "0.01",
            "lot_size": "1",
            "burn_bps": 5,
            "reason": REASON,
        }
        proposed = await desk.done("POST", "/markets", ANN, json=body)
        assert proposed["proposal"]["tick_size"] == "0.01000000"
        opened = await desk.done("POST", f"/approvals/{proposed['id']}/approve", BEN)
        assert opened["state"] == "executed"
        halted = await desk.done(
            "POST", "/markets/CNY-DUR/halt", OSCAR, json={"reason": "incident-7"}
        )
        shown = await desk.done("GET", "/markets", ALMA, min_position=halted["position"])
        assert shown["items"][0]["halt_reason"] == "incident-7"
        again = {"reason": "again"}
        assert await desk.no("POST", "/markets/CNY-DUR/halt", OSCAR, json=again) == "market_halted"
        await desk.done("POST", "/markets/CNY-DUR/resume", OSCAR)
        assert await desk.no("POST", "/markets/NO/resume", OSCAR) == "unknown_market"

    run(story)


def test_key_has_one_effect_one_record_and_one_answer(run: Callable[[Story], None]) -> None:
    async def story(desk: Desk) -> None:
        sent: dict[str, Any] = {
            "json": {"reason": "incident"},
            "headers": {"idempotency-key": "k-1"},
        }
        path = "/v1/admin/markets/DUR-CNY/halt"
        answers = await asyncio.gather(*(desk.ask("POST", path, OSCAR, **sent) for _ in range(50)))
        assert len({answer.content for answer in answers}) == 1
        assert sum("idempotency-replayed" in answer.headers for answer in answers) == 49
        assert len(events(desk.line, MarketHalted)) == 1
        await desk.done("POST", "/markets/DUR-CNY/resume", OSCAR)
        assert (await desk.ask("POST", path, OSCAR, **sent)).content == answers[0].content
        assert len(events(desk.line, MarketHalted)) == 1
        other = {**sent, "json": {"reason": "other"}}
        assert await desk.refused("POST", path, OSCAR, **other) == (422, "idempotency_key_reused")
        listed = await desk.pages("/v1/admin/records", ALMA, action="halt_market")
        assert [one["phase"] for one in listed] == ["intent", "outcome"]

    run(story)


def test_users_are_listed_disabled_and_frozen(run: Callable[[Story], None]) -> None:
    async def story(desk: Desk) -> None:
        ids = [await desk.register(name) for name in ("carol", "dave", "erin")]
        listed = await desk.pages("/v1/admin/users", ANN, limit=2)
        assert [(one["user_id"], one["user_name"]) for one in listed] == list(
            zip(ids, ("carol", "dave", "erin"), strict=True)
        )
        hidden = await desk.pages("/v1/admin/users", ALMA)
        assert {one["user_name"] for one in hidden} == {None}
        carol = ids[0]
        await desk.done("POST", f"/users/{carol}/disable", ANN)
        assert (await desk.done("GET", f"/users/{carol}", ALMA))["user"]["state"] == "disabled"
        desk.line.fund(carol)
        await desk.done("POST", f"/users/{carol}/freeze", OSCAR, json={"reason": "case-9"})
        shown = await desk.done("GET", f"/users/{carol}", ALMA)
        assert shown["frozen"] == "case-9"
        assert shown["balances_path"] == f"/v1/balances?user_id={carol}"
        again = {"reason": "again"}
        refused = await desk.no("POST", f"/users/{carol}/freeze", OSCAR, json=again)
        assert refused == "account_frozen"
        await desk.done("POST", f"/users/{carol}/unfreeze", OSCAR)
        assert (await desk.done("GET", f"/users/{carol}", ALMA))["frozen"] is None
        await desk.done("POST", f"/users/{carol}/erase", ANN)
        assert (await desk.done("GET", f"/users/{carol}", ANN))["user"]["user_name"] is None
        assert await desk.no("GET", "/users/nobody", ALMA) == "unknown_user"
        assert await desk.no("POST", "/users/nobody/disable", ANN) == "unknown_user"

    run(story)


def test_role_admin_needs_two_and_nobody_changes_their_own(run: Callable[[Story], None]) -> None:
    async def story(desk: Desk) -> None:
        carol = await desk.register("carol")
        path, body = f"/users/{carol}/role", {"role": "operator", "reason": REASON}
        await desk.done("PUT", path, ANN, json=body)
        assert (await desk.done("GET", f"/users/{carol}", ALMA))["user"]["role"] == "operator"
        answer = await desk.ask(
            "PUT", f"/v1/admin{path}", ANN, json={"role": "admin", "reason": REASON}
        )
        assert answer.status_code == 202
        assert (await desk.done("GET", f"/users/{carol}", ALMA))["user"]["role"] == "operator"
        await desk.done("POST", f"/approvals/{answer.json()['id']}/approve", BEN)
        assert (await desk.done("GET", f"/users/{carol}", ALMA))["user"]["role"] == "admin"
        own = await desk.no("PUT", "/users/ann/role", ANN, json=body)
        assert own == "same_person"
        # The last administrator stays one, and the record says who tried.
        assert await desk.no("PUT", path, ANN, json=body) == "forbidden"
        listed = await desk.pages("/v1/admin/records", ALMA, target=f"user:{carol}")
        assert listed[-1]["outcome"] == "refused"

    run(story)


def test_who_was_disabled_or_demoted_changes_nothing_more(run: Callable[[Story], None]) -> None:
    """Their tokens hold for some minutes more."""

    async def story(desk: Desk) -> None:
        eve = await desk.register("eve")
        async with identity(desk.line.config, signs=False) as (accounts, _):
            await accounts.set_role(eve, "admin", by="test")
            await accounts.set_role(await desk.register("carol"), "admin", by="test")
        as_eve = (eve, "admin")
        body = {"amount": "1", "reason": REASON}
        number = (await desk.done("PUT", "/reserve-burn", ANN, json=body))["id"]
        await desk.done("PUT", "/reserve-burn", as_eve, json=body)
        await desk.done("POST", f"/users/{eve}/disable", ANN)
        assert await desk.no("POST", f"/users/{eve}/enable", as_eve) == "same_person"
        assert await desk.no("POST", f"/approvals/{number}/approve", as_eve) == "unauthorized"
        enabling = await desk.ask("POST", f"/v1/admin/users/{eve}/enable", ANN)
        assert enabling.status_code == 202
        assert await desk.no("POST", f"/approvals/{enabling.json()['id']}/approve", ANN)
        await desk.done("POST", f"/approvals/{enabling.json()['id']}/approve", BEN)
        role = {"role": "operator", "reason": REASON}
        await desk.done("PUT", f"/users/{eve}/role", ANN, json=role)
        assert await desk.no("POST", f"/approvals/{number}/approve", as_eve) == "forbidden"

    run(story)


def test_engine_that_is_away_is_asked_again(run: Callable[[Story], None]) -> None:
    async def story(desk: Desk) -> None:
        desk.line.engine.is_mute = True
        path = "/v1/admin/users/alice/freeze"
        sent: dict[str, Any] = {"json": {"reason": "case"}}
        answer = await desk.ask("POST", path, OSCAR, **sent)
        assert (answer.status_code, answer.json()["code"]) == (503, "engine_unavailable")
        assert await desk.refused("POST", path, OSCAR, **sent) == (409, "change_in_progress")
        desk.line.engine.is_mute = False
        listed: list[Any] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(listed) < 2:
                listed = await desk.pages("/v1/admin/records", ALMA, target="user:alice")
        outcome = listed[-1]
        assert (outcome["phase"], outcome["outcome"]) == ("outcome", "accepted")

    run(story)


def test_jobs_are_asked_for_and_cancelled(run: Callable[[Story], None]) -> None:
    async def story(desk: Desk) -> None:
        body = {"kind": "rebuild", "name": "market"}
        job = await desk.done("POST", "/jobs", OSCAR, json=body)
        assert (job["state"], job["requested_by"]) == ("queued", "oscar")
        assert await desk.no("POST", "/jobs", OSCAR, json=body) == "job_running"
        wrong = {"kind": "verify_log", "name": "market"}
        assert await desk.no("POST", "/jobs", OSCAR, json=wrong) == "invalid_request"
        assert await desk.no("POST", "/jobs", ALMA, json=body) == "forbidden"
        ended = await desk.done("POST", f"/jobs/{job['id']}/cancel", OSCAR)
        assert ended["state"] == "cancelled"
        assert [one["id"] for one in await desk.pages("/v1/admin/jobs", ALMA)] == [job["id"]]
        assert (await desk.done("GET", f"/jobs/{job['id']}", ALMA))["log"] == []
        assert await desk.no("GET", "/jobs/999", ALMA) == "unknown_job"
        check = await desk.done("GET", "/records/verify", ALMA)
        assert (check["holds"], check["checked"]) == (True, 2)

    run(story)


def test_health_names_what_answers(run: Callable[[Story], None]) -> None:
    async def story(desk: Desk) -> None:
        health = await desk.done("GET", "/health", ALMA)
        answers = {one["name"]: one["answers"] for one in health["dependencies"]}
        assert answers == dict.fromkeys(("postgres", "history", "accounts", "desk", "redis"), True)
        assert health["parts"] == []
        lags = await desk.done("GET", "/lag", ALMA)
        assert [one["name"] for one in lags["items"]] == [
            "relay",
            "market",
            "mining",
            "accounts",
            "history",
        ]

    run(story)
