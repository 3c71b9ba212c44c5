"""The mining service over real uvicorn, Redis and folds: schedule, forecasts, leaders."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from schemas.amounts import parse_amount
from schemas.commands import GrantContribution, ScheduleEmission, SettleAccrual
from tests.fixtures._gateway_line import FUNDS, running_line
from tests.fixtures._service_client import ServiceClient
from tests.fixtures.tiny_engine import GENESIS_SECOND

pytestmark = pytest.mark.services
AUDIT, ANN, BOB = ("audit", "auditor"), ("ann", "user"), ("bob", "user")
Story = Callable[[ServiceClient], Awaitable[None]]


def run(view_redis: str, directory: Path, story: Story) -> None:
    async def told() -> None:
        async with (
            running_line(view_redis, directory, ("mining",)) as line,
            httpx.AsyncClient() as http,
        ):
            await story(ServiceClient(line, http, "mining"))

    asyncio.run(told())


def test_the_schedule_and_what_it_means_for_the_pool(view_redis: str, tmp_path: Path) -> None:
    async def story(client: ServiceClient) -> None:
        engine = client.line.engine
        engine.accept(ScheduleEmission(from_second=GENESIS_SECOND + 10, reward_minor=0))
        engine.pass_seconds(4)
        await client.line.views.project()
        shown = await client.shown("/v1/mining/emission", None)
        assert [(step["from_second"], step["state"]) for step in shown["items"][:2]] == [
            (GENESIS_SECOND, "current"),
            (GENESIS_SECOND + 10, "scheduled"),
        ]
        assert (shown["second"], shown["next_second"]) == (GENESIS_SECOND + 4, GENESIS_SECOND + 10)
        assert shown["reward_per_second"] == "1.00000000"
        engine.pass_seconds(10)
        remaining = parse_amount(shown["remaining"], 8)
        at = engine.second + 5
        engine.accept(ScheduleEmission(from_second=at, reward_minor=remaining // 2))
        await client.line.views.project()
        shown = await client.shown("/v1/mining/emission", None)
        assert [step["state"] for step in shown["items"][:3]] == ["past", "current", "scheduled"]
        assert (shown["reward_per_second"], shown["ends_second"]) == ("0.00000000", at + 2)

    run(view_redis, tmp_path, story)


def test_a_forecast_comes_true_if_nothing_changes(view_redis: str, tmp_path: Path) -> None:
    async def story(client: ServiceClient) -> None:
        engine = client.line.engine
        engine.accept(ScheduleEmission(from_second=GENESIS_SECOND + 1_000, reward_minor=7))
        for user_id, weight in (("ann", 3), ("bob", 4)):
            engine.accept(
                GrantContribution(
                    user_id=user_id,
                    grant_id="g",
                    source="device",
                    weight=weight,
                    expires_second=GENESIS_SECOND + 50_000 if user_id == "bob" else None,
                )
            )
        engine.pass_seconds(5)
        await client.line.views.project()
        told = await client.shown("/v1/mining/projection", ANN)
        before = await client.shown("/v1/mining/me", ANN)
        assert (told["reward_per_second"], told["share"]["percent"]) == ("1.00000000", "42.857142")
        assert (told["pool_ends_second"] or 0) > GENESIS_SECOND
        for name, seconds in (("second", 1), ("hour", 3_599)):
            engine.pass_seconds(seconds)
            await client.line.views.project()
            after = await client.shown("/v1/mining/me", ANN)
            earned = parse_amount(after["accrued"], 8) - parse_amount(before["accrued"], 8)
            assert parse_amount(told["income"][name], 8) == earned, name
        bob = await client.shown("/v1/mining/projection", AUDIT, user_id="bob")
        assert bob["weight_ends_second"] == GENESIS_SECOND + 50_000
        nobody = await client.shown("/v1/mining/projection", AUDIT, user_id="nobody")
        assert set(nobody["income"].values()) == {"0.00000000"}
        refused = await client.refused("GET", "/v1/mining/projection", ANN, user_id="bob")
        assert refused == (403, "forbidden")

    run(view_redis, tmp_path, story)


def test_leaders_by_what_they_mined_hold_and_weigh(view_redis: str, tmp_path: Path) -> None:
    path = "/v1/mining/leaderboard"

    async def story(client: ServiceClient) -> None:
        engine = client.line.engine
        empty = await client.shown(path, ANN)
        assert (empty["items"], empty["you"]) == ([], None)
        client.line.fund("ann", "bob", "cy")
        engine.accept(GrantContribution(user_id="bob", grant_id="more", source="s", weight=50))
        engine.pass_seconds(7)
        engine.accept(SettleAccrual(user_id="bob"))
        engine.pass_seconds(7)
        engine.accept(SettleAccrual(user_id="ann"))
        await client.line.views.project()
        mined = await client.shown(path, AUDIT)
        assert [(one["rank"], one["user_id"]) for one in mined["items"]] == [(1, "ann"), (2, "bob")]
        assert (mined["asset"], mined["you"], mined["next_cursor"]) == ("DUR", None, None)
        weights = await client.pages(path, ANN, by="weight", limit=1)
        assert [(one["amount"], one["user_id"]) for one in weights] == [
            ("150", None),
            ("100", None),
            ("100", "ann"),
        ]
        held = await client.shown(path, BOB, by="holding", asset="CNY")
        assert {one["amount"] for one in held["items"]} == {f"{FUNDS // 10**8}.00000000"}
        assert held["you"]["user_id"] == "bob"
        unknown = await client.refused("GET", path, ANN, by="holding", asset="XYZ")
        assert unknown == (404, "unknown_asset")
        assert await client.refused("GET", path, ANN, by="luck") == (400, "invalid_request")
        assert await client.refused("GET", path, None) == (401, "unauthorized")

    run(view_redis, tmp_path, story)
