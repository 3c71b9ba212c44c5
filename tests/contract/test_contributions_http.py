"""The contribution service over real uvicorn, Redis and folds: grants, lists, counts, imports."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from schemas.commands import AdjustContribution, GrantContribution
from tests.fixtures._gateway_line import DEADLINE_SECONDS, running_line
from tests.fixtures._service_client import ServiceClient
from tests.fixtures.service_databases import ServiceDatabases
from tests.fixtures.tiny_engine import GENESIS_SECOND

pytestmark = pytest.mark.services
BOSS, AUDIT, ANN = ("boss", "operator"), ("audit", "auditor"), ("ann", "user")
PATH = "/v1/contributions"
HEADER = "user_id,grant_id,source,weight,expires\n"
Story = Callable[[ServiceClient], Awaitable[None]]


def run(view_redis: str, directory: Path, story: Story) -> None:
    async def told() -> None:
        async with (
            running_line(view_redis, directory, ("contribution",)) as line,
            httpx.AsyncClient() as http,
        ):
            await story(ServiceClient(line, http, "contribution"))

    asyncio.run(told())


def give(client: ServiceClient, user_id: str, grant_id: str, weight: int, **terms: Any) -> None:
    client.line.engine.accept(
        GrantContribution(
            user_id=user_id,
            grant_id=grant_id,
            source=terms.get("source", "device"),
            weight=weight,
            expires_second=terms.get("expires_second"),
        )
    )


def test_a_grant_is_given_changed_and_revoked(view_redis: str, tmp_path: Path) -> None:
    async def story(client: ServiceClient) -> None:
        body = {"user_id": "ann", "source": "device", "weight": 7, "grant_id": "a/b"}
        granted = await client.ask("POST", PATH, BOSS, json=body)
        assert granted.status_code == 201
        body["grant_id"] = "g1"
        assert (await client.ask("POST", PATH, BOSS, json=body)).json()["weight_after"] == "14"
        terms = {"weight": "9223372036854775808", "expires_second": GENESIS_SECOND + 90}
        key = {"idempotency-key": "change-1"}
        adjusted = await client.ask("PATCH", f"{PATH}/ann/grants/g1", BOSS, json=terms, headers=key)
        assert adjusted.json() == {
            "user_id": "ann",
            "grant_id": "g1",
            "weight_before": "7",
            "weight": terms["weight"],
            "expires_second": GENESIS_SECOND + 90,
            "weight_after": "9223372036854775815",
            "position": len(client.line.engine.log),
        }
        again = await client.ask("PATCH", f"{PATH}/ann/grants/g1", BOSS, json=terms, headers=key)
        assert (again.json(), again.headers["idempotency-replayed"]) == (adjusted.json(), "true")
        revoked = (await client.ask("DELETE", f"{PATH}/ann/grants/g1", BOSS)).json()
        assert (revoked["weight"], revoked["weight_after"]) == ("0", "7")
        assert await client.refused("DELETE", f"{PATH}/ann/grants/g1", BOSS) == (
            404,
            "unknown_grant",
        )
        assert await client.refused("DELETE", f"{PATH}/bob/grants/g1", BOSS) == (
            404,
            "unknown_account",
        )
        assert await client.refused("POST", PATH, BOSS, json=body) == (409, "duplicate_grant")
        for wrong in ({"weight": 0}, {"weight": "7"}, {"weight": "07", "expires_second": None}):
            found = await client.refused("PATCH", f"{PATH}/ann/grants/g1", BOSS, json=wrong)
            assert found == (400, "invalid_request")
        assert await client.refused("POST", PATH, ANN, json=body) == (403, "forbidden")

    run(view_redis, tmp_path, story)


def test_lists_shares_and_reading_ones_own_writes(view_redis: str, tmp_path: Path) -> None:
    async def story(client: ServiceClient) -> None:
        weights = {"ann": 10, "bob": 20, "cy": 30, "dee": 0}
        for user_id, weight in weights.items():
            give(client, user_id, "g", max(weight, 1))
        client.line.engine.accept(AdjustContribution(user_id="dee", grant_id="g", weight=0))
        client.line.engine.pass_seconds(1)
        position = len(client.line.engine.log)
        asked = asyncio.create_task(client.shown(f"{PATH}/ann", ANN, min_position=position))
        await client.line.views.project()
        shown = await asked
        assert shown["share"] == {"weight": "10", "weight_total": "60", "percent": "16.666666"}
        behind = await client.refused("GET", f"{PATH}/ann", ANN, min_position=position + 1)
        assert behind == (409, "views_behind")
        listed = await client.pages(PATH, AUDIT, limit=2)
        assert listed == await client.pages(PATH, AUDIT)
        assert [(one["rank"], one["user_id"], one["grants"]) for one in listed] == [
            (1, "cy", 1),
            (2, "bob", 1),
            (3, "ann", 1),
        ]
        assert listed[0]["share"]["percent"] == "50.000000"
        empty = await client.shown(f"{PATH}/stranger", AUDIT)
        assert (empty["weight"], empty["grants"]) == ("0", [])
        assert await client.refused("GET", PATH, ANN) == (403, "forbidden")
        assert await client.refused("GET", f"{PATH}/bob", ANN) == (403, "forbidden")
        assert await client.refused("GET", PATH, None) == (401, "unauthorized")

    run(view_redis, tmp_path, story)


def test_sources_and_grants_that_end(view_redis: str, tmp_path: Path) -> None:
    async def story(client: ServiceClient) -> None:
        ends = {"ann": GENESIS_SECOND + 100, "bob": GENESIS_SECOND + 50, "cy": None}
        for user_id, expires_second in ends.items():
            give(client, user_id, "g", 10, expires_second=expires_second)
            give(client, user_id, "h", 1, source="friend")
        await client.line.views.project()
        sources = await client.shown(f"{PATH}/sources", AUDIT)
        assert sources["items"] == [
            {"source": "device", "weight": "30", "grants": 3, "users": 3},
            {"source": "friend", "weight": "3", "grants": 3, "users": 3},
        ]
        assert sources["weight"] == "33"
        before = (GENESIS_SECOND + 100) * 1_000
        soon = await client.shown(f"{PATH}/expiring", AUDIT, before=before)
        assert [one["user_id"] for one in soon["items"]] == ["bob"]
        both = await client.pages(f"{PATH}/expiring", AUDIT, before=before + 1, limit=1)
        assert [(one["user_id"], one["expires_second"]) for one in both] == [
            ("bob", ends["bob"]),
            ("ann", ends["ann"]),
        ]
        assert await client.refused("GET", f"{PATH}/sources", ANN) == (403, "forbidden")

    run(view_redis, tmp_path, story)


class Importing:
    """POST /v1/contributions/import of some lines: outcomes and codes by line."""

    def __init__(self, client: ServiceClient) -> None:
        self.client = client

    async def send(self, lines: str, **query: str) -> dict[str, Any]:
        answer = await self.client.ask(
            "POST",
            f"{PATH}/import",
            BOSS,
            content=(HEADER + lines).encode(),
            headers={"content-type": "text/csv"},
            **query,
        )
        assert answer.status_code == 200, answer.text
        report: dict[str, Any] = answer.json()
        kinds = ("applied", "already", "would_apply", "refused", "not_applied")
        assert sum(report[kind] for kind in kinds) == len(report["lines"])
        return report

    async def outcomes(self, lines: str, **query: str) -> list[str]:
        report = await self.send(lines, **query)
        return [line["code"] or line["outcome"] for line in report["lines"]]


def test_an_import_and_the_same_import_again(view_redis: str, tmp_path: Path) -> None:
    lines = "".join(f"u{i % 50},g{i},device,{i + 1},\n" for i in range(300))

    async def story(client: ServiceClient) -> None:
        importing, engine = Importing(client), client.line.engine
        before = len(engine.log)
        assert set(await importing.outcomes(lines, dry_run="true")) == {"would_apply"}
        assert len(engine.log) == before
        report = await importing.send(lines)
        assert (report["applied"], report["position"]) == (300, len(engine.log))
        after = len(engine.log)
        assert await importing.send(lines) == report
        assert len(engine.log) == after
        # Of the first half the ledger has forgotten its first answers.
        engine.forget_answers()
        assert set(await importing.outcomes(lines)) == {"duplicate_grant"}
        await client.line.views.project()
        assert set(await importing.outcomes(lines, dry_run="true")) == {"already"}
        engine.forget_answers()
        assert set(await importing.outcomes(lines)) == {"already"}
        assert len(engine.log) == after
        many = await asyncio.gather(*[importing.send(f"new,g{i % 3},x,1,\n") for i in range(50)])
        assert {report["applied"] for report in many} == {1}
        assert len({report["position"] for report in many}) == 3

    run(view_redis, tmp_path, story)


def test_an_import_with_faults(view_redis: str, tmp_path: Path) -> None:
    lines = "ann,g1,device,5,\nann,,device,5,\nbob,g1,device,5,1000\n\nbob,g2,device,5,"

    async def story(client: ServiceClient) -> None:
        importing = Importing(client)
        give(client, "ann", "g1", 6)
        await client.line.views.project()
        before = len(client.line.engine.log)
        refused = ["duplicate_grant", "invalid_id", "invalid_expiry", "would_apply"]
        assert await importing.outcomes(lines, dry_run="true") == refused
        whole = await importing.outcomes(lines)
        assert whole == ["not_applied", "invalid_id", "not_applied", "not_applied"]
        assert len(client.line.engine.log) == before
        report = await importing.send(lines, partial="true")
        assert [line["outcome"] for line in report["lines"]] == ["refused"] * 3 + ["applied"]
        assert [line["line"] for line in report["lines"]] == [2, 3, 4, 6]
        assert report["lines"][0]["detail"] == ("The user has this grant on other terms: device 6.")
        assert report["lines"][2]["allowed"] == f"now_second {client.line.engine.second}"
        for content in (b"", b"\xff", b"user_id,weight\nann,5\n"):
            found = await client.refused(
                "POST",
                f"{PATH}/import",
                BOSS,
                content=content,
                headers={"content-type": "text/csv"},
            )
            assert found == (400, "invalid_request")
        found = await client.refused(
            "POST", f"{PATH}/import", ANN, content=b"x", headers={"content-type": "text/csv"}
        )
        assert found == (403, "forbidden")

    run(view_redis, tmp_path, story)


def test_an_import_while_the_engine_is_away_goes_on_later(view_redis: str, tmp_path: Path) -> None:
    lines = "".join(f"u{i},g{i},device,1,\n" for i in range(200))

    async def story(client: ServiceClient) -> None:
        engine = client.line.engine
        engine.is_mute = True
        found = await client.refused(
            "POST",
            f"{PATH}/import",
            BOSS,
            content=(HEADER + lines).encode(),
            headers={"content-type": "text/csv"},
        )
        assert found == (503, "engine_unavailable")
        engine.is_mute = False
        engine.cut()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                if (await client.ask("GET", "/readyz", None)).status_code == 200:
                    break
                await asyncio.sleep(0.02)
        report = await Importing(client).send(lines)
        assert report["applied"] == 200
        granted = [event for event in engine.log if getattr(event, "grant_id", None)]
        assert len(granted) == 200

    run(view_redis, tmp_path, story)


def test_nobody_gives_weight_to_themselves(view_redis: str, tmp_path: Path) -> None:
    async def story(client: ServiceClient) -> None:
        give(client, "boss", "g", 1)
        before = len(client.line.engine.log)
        body = {"user_id": "boss", "source": "device", "weight": 7, "grant_id": "mine"}
        terms = {"weight": 8, "expires_second": None}
        refused = (403, "same_person")
        assert await client.refused("POST", PATH, BOSS, json=body) == refused
        assert await client.refused("PATCH", f"{PATH}/boss/grants/g", BOSS, json=terms) == refused
        assert await client.refused("DELETE", f"{PATH}/boss/grants/g", BOSS) == refused
        lines = "boss,mine,device,7,\nann,g1,device,1,\n"
        importing = Importing(client)
        assert await importing.outcomes(lines) == ["same_person", "not_applied"]
        assert await importing.outcomes(lines, dry_run="true") == ["same_person", "would_apply"]
        assert len(client.line.engine.log) == before
        assert await importing.outcomes(lines, partial="true") == ["same_person", "applied"]

    run(view_redis, tmp_path, story)


def test_a_line_imported_before_whose_grant_has_changed_since(
    view_redis: str, tmp_path: Path
) -> None:
    lines = "ann,g1,device,5,\nann,g2,device,5,\nann,g3,device,5,\n"

    async def story(client: ServiceClient) -> None:
        importing = Importing(client)
        first = await importing.send(lines)
        assert await importing.send(lines) == first, "the views do not know yet"
        await client.line.views.project()
        assert await importing.send(lines) == first
        engine = client.line.engine
        engine.accept(AdjustContribution(user_id="ann", grant_id="g1", weight=0))
        engine.accept(AdjustContribution(user_id="ann", grant_id="g2", weight=6))
        await client.line.views.project()
        after = len(engine.log)
        again = await importing.send(lines)
        assert [line["code"] for line in again["lines"]] == [
            "duplicate_grant",
            "duplicate_grant",
            None,
        ]
        assert (again["applied"], again["refused"]) == (1, 2)
        assert again["lines"][1]["detail"].endswith("on other terms: device 6.")
        assert len(engine.log) == after

    run(view_redis, tmp_path, story)


def test_an_import_is_recorded_once_before_and_once_after(
    view_redis: str, tmp_path: Path, service_databases: ServiceDatabases
) -> None:
    async def told() -> None:
        async with (
            running_line(
                view_redis, tmp_path, ("contribution",), desk_url=service_databases.desk_url
            ) as line,
            httpx.AsyncClient() as http,
        ):
            importing = Importing(ServiceClient(line, http, "contribution"))
            await importing.send("ann,g1,device,5,\n", dry_run="true")
            await importing.send("ann,g1,device,5,\nann,,device,5,\n", partial="true")

    asyncio.run(told())
    with psycopg.connect(service_databases.desk_url) as desk:
        rows = desk.execute(
            "SELECT who, action, phase, intent_id, details::json->>'lines',"
            " details::json->>'applied' FROM records ORDER BY id"
        ).fetchall()
    assert rows == [
        ("boss", "import_contributions", "intent", None, "2", None),
        ("boss", "import_contributions", "outcome", 1, None, "1"),
    ]
