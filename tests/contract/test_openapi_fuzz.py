"""Every service against its own OpenAPI document: what the document allows and what it forbids.

DURIAN_FUZZ_EXAMPLES=2000 tries longer and DURIAN_FUZZ_SEED others; -s shows the figures.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from gateway.services import HTTP_SERVICES, HttpService
from schemas.commands import PlaceOrder
from tests.fixtures._fuzzer import Findings, fuzz
from tests.fixtures._gateway_line import Line, running_line

pytestmark = pytest.mark.services

EXAMPLES = int(os.environ.get("DURIAN_FUZZ_EXAMPLES", "12"))
SEED = int(os.environ.get("DURIAN_FUZZ_SEED", "7"))
MARKET = "DUR-CNY"
STEP_SECONDS = 0.1
KNOWN = {
    "market": [MARKET],
    "asset": ["DUR", "CNY"],
    "user_id": ["maker", "taker", "fuzzer"],
    "interval": ["1m", "1h"],
    "limit": [1, 2, 1000],
    "order_id": [1, 2, 3, 4],
}


async def _live(line: Line) -> None:
    """Time passes and views follow, until cancelled."""
    while True:
        line.engine.pass_seconds(1)
        await line.views.project()
        await asyncio.sleep(STEP_SECONDS)


def _trade(line: Line) -> None:
    line.fund("maker", "taker", "fuzzer")
    for number, (user_id, side) in enumerate([("maker", "sell"), ("taker", "buy")] * 2):
        line.engine.accept(
            PlaceOrder(
                user_id=user_id,
                client_order_id=f"o{number}",
                market_id=MARKET,
                side=side,  # type: ignore[arg-type]  # literals above
                order_type="limit",
                price_minor=10**8,
                quantity_minor=(2 if side == "sell" else 1) * 10**8,
            )
        )


@pytest.mark.parametrize("role", ["admin", "user"])
@pytest.mark.parametrize("service", HTTP_SERVICES)
def test_a_service_is_what_its_document_says(
    view_redis: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    service: HttpService,
    role: str,
) -> None:
    (tmp_path / "line").mkdir()

    async def story() -> Findings:
        async with running_line(view_redis, tmp_path / "line", (service,)) as line:
            _trade(line)
            living = asyncio.create_task(_live(line))
            try:
                return await fuzz(
                    line.urls[service],
                    line.token("fuzzer", role, lifetime_s=86_400),
                    tmp_path,
                    examples=EXAMPLES,
                    seed=SEED,
                    known=KNOWN,
                )
            finally:
                living.cancel()

    began = time.monotonic()
    found = asyncio.run(story())
    seconds = time.monotonic() - began
    with capsys.disabled():
        sys.stdout.write(f"\n{service} as {role}, {seconds:.1f} s: {found.summary()}\n")
    assert found.status == 0, found.said
