"""`durian watch` in a process of its own against the real gateway."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures._gateway_line import DEADLINE_SECONDS, Line
from tests.fixtures._traded_line import MARKET, run, some_seconds

pytestmark = pytest.mark.services
ROOT = Path(__file__).parents[2]


class Watching:
    """A `durian watch` of its own process."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def start(
        self, *arguments: str, stdout: int = asyncio.subprocess.PIPE
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ops", "watch", "--url", self._line.urls["stream"]),
            *arguments,
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color"},
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
        )

    async def finish(self, *arguments: str) -> tuple[int | None, list[str], str]:
        """Exit code, lines of standard output, standard error."""
        process = await self.start(*arguments)
        async with asyncio.timeout(DEADLINE_SECONDS):
            out, err = await process.communicate()
        return process.returncode, out.decode().splitlines(), err.decode()


@contextlib.asynccontextmanager
async def passing_seconds(line: Line) -> AsyncIterator[None]:
    """Seconds of the ledger go by inside the block, faster than real ones."""

    async def pass_on() -> None:
        while True:
            line.engine.pass_seconds(1)
            await line.views.project()
            await asyncio.sleep(0.05)

    passing = asyncio.create_task(pass_on())
    try:
        yield
    finally:
        passing.cancel()
        await asyncio.gather(passing, return_exceptions=True)


def test_watch_prints_changes_and_the_local_balance(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        await some_seconds(line, 1, 1)
        watching, token = Watching(line), line.token("taker")
        asked = ("pulse", "account", f"depth.{MARKET}", "--token", token, "--count", "9")
        async with passing_seconds(line):
            code, lines, err = await watching.finish(*asked)
            assert (code, err, len(lines)) == (0, "", 9)
            for word in ("reward", "taker CNY", f"depth.{MARKET}", "(balance)", f"{MARKET} 1.0001"):
                assert any(word in each for each in lines), (word, lines)
            code, lines, err = await watching.finish(*asked, "--json", "--encoding", "msgpack")
            served = await watching.finish("balance", "--token", token, "--count", "1", "--json")
        assert (code, err, served[0]) == (0, "", 0)
        shown = [json.loads(each) for each in lines]
        channels = {each["channel"] for each in shown}
        assert channels == {"pulse", "account", f"depth.{MARKET}", "balance"}
        assert {each["kind"] for each in shown} == {"snapshot", "publication", "computed"}
        computed = next(each["data"] for each in shown if each["kind"] == "computed")
        balance = json.loads(served[1][0])["data"]
        assert computed.keys() == balance.keys()
        assert computed["amount"] < balance["amount"]
        assert balance["values"].keys() == {MARKET}

    run(view_redis, tmp_path, story)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("account",), 2, "channel account is private: say whose with --user"),
        (("nothing",), 2, "refuses nothing"),
        (("balance", "--token", "nonsense"), 2, "refuses us"),
        (("balance", "--user", "alice", "--token", "x"), 2, "exclude each other"),
        (("balance", "--user", "alice", "--data", "/nowhere"), 2, "no key to sign with"),
    ],
)
def test_watch_says_what_is_wrong_with_what_was_asked(
    view_redis: str, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    async def story(line: Line) -> None:
        ended, lines, err = await Watching(line).finish(*arguments)
        assert (ended, lines) == (code, [])
        assert said in err

    run(view_redis, tmp_path, story)


def test_watch_ends_cleanly_when_it_is_interrupted(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        process = await Watching(line).start("pulse")
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert b"pulse" in await process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
        assert (process.returncode, err) == (0, b"")

    run(view_redis, tmp_path, story)


def test_watch_is_coloured_on_a_terminal(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        terminal, its_end = os.openpty()
        try:
            process = await Watching(line).start("mining", "--count", "1", stdout=its_end)
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert await process.wait() == 0
            shown = os.read(terminal, 4_096)
        finally:
            os.close(terminal)
            os.close(its_end)
        assert b"\x1b[" in shown
        assert shown.count(b"\n") == 1

    run(view_redis, tmp_path, story)


def test_an_unknown_channel_is_told_which_there_are(view_redis: str, tmp_path: Path) -> None:
    async def story(line: Line) -> None:
        code, lines, err = await Watching(line).finish("tikcer.DUR-CNY")
        assert (code, lines) == (2, [])
        assert "tikcer.DUR-CNY" in err
        assert "ticker.M" in err

    run(view_redis, tmp_path, story)
