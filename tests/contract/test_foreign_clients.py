"""The JavaScript of docs/protocol.md, as it stands there, run by Node and by a browser.

tests/clients/story.mjs tells what they must see: snapshots, changes that merge to what a newcomer
is shown, a resume after a cut with exactly what was missed, MessagePack, close codes, a drain.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fixtures._gateway_line import running_line
from tests.fixtures._link_proxy import link
from tests.fixtures._stage import Stage
from tests.fixtures.nginx_front import free_ports

pytestmark = pytest.mark.services
STORY_SECONDS = 90.0
USER = "taker"


@contextlib.asynccontextmanager
async def staged(view_redis: str, directory: Path) -> AsyncIterator[Stage]:
    async with running_line(view_redis, directory, ("stream",)) as line:
        line.fund("maker", USER)
        # An hour's candle that the story does not outlive, and something accrued.
        line.engine.pass_seconds(7)
        await line.views.project()
        port = urlsplit(line.urls["stream"]).port
        assert port is not None
        with link(port, free_ports(1)[0]) as linked:
            stage = Stage(line, linked, USER)
            async with stage.open():
                await stage.trade()
                yield stage


def run(view_redis: str, directory: Path, told: Callable[[Stage], Awaitable[None]]) -> None:
    async def on_stage() -> None:
        async with staged(view_redis, directory) as stage, asyncio.timeout(STORY_SECONDS):
            await told(stage)

    asyncio.run(on_stage())


@contextlib.asynccontextmanager
async def browsing(browser: str, url: str, directory: Path) -> AsyncIterator[None]:
    """A page is open inside the block."""
    process = await asyncio.create_subprocess_exec(
        browser,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        f"--user-data-dir={directory / 'profile'}",
        url,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        # A browser is several processes; the group is ours alone.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def test_documented_client_in_node(view_redis: str, node_packages: Path, tmp_path: Path) -> None:
    async def told(stage: Stage) -> None:
        (tmp_path / "node_modules").symlink_to(node_packages / "node_modules")
        for name, text in stage.files.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        node = await asyncio.create_subprocess_exec(
            "node",
            "node.mjs",
            stage.origin,
            cwd=tmp_path,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, told_errors = await node.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                node.kill()
        assert node.returncode == 0, told_errors.decode()
        assert stage.done.result()["codes"] == [4500, 1009, 4002]

    run(view_redis, tmp_path / "line", told)


def test_documented_client_in_a_browser(view_redis: str, browser: str, tmp_path: Path) -> None:
    async def told(stage: Stage) -> None:
        async with browsing(browser, f"{stage.origin}/page.html", tmp_path):
            outcome = await stage.done
        assert "failed" not in outcome, outcome["failed"]
        assert outcome["codes"] == [4500, 1009, 4002]
        assert "Chrom" in outcome["browser"]

    run(view_redis, tmp_path / "line", told)


def test_a_page_of_another_host_may_not_connect(
    view_redis: str, browser: str, tmp_path: Path
) -> None:
    """The gateway is at 127.0.0.1, the page at localhost: a browser calls these two hosts."""

    async def told(stage: Stage) -> None:
        elsewhere = stage.origin.replace("127.0.0.1", "localhost")
        async with browsing(browser, f"{elsewhere}/elsewhere.html", tmp_path):
            assert await stage.done == {"opened": False, "code": 1006}

    run(view_redis, tmp_path / "line", told)
