"""`durian contribution` against a running service: one grant's life, and files of any length."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
import pytest

from ops.commands.contribution import command
from ops.contributing import LINES_AT_ONCE
from ops.errors import Exit, OpsError, UsageError
from tests.fixtures._gateway_line import Line, running_line
from tests.fixtures._service_client import ServiceClient

pytestmark = pytest.mark.services
HEADER = "user_id,grant_id,source,weight,expires\n"


class Terminal:
    """The command as typed by an operator of the line; each call is one command line."""

    def __init__(
        self, line: Line, client: ServiceClient, capsys: pytest.CaptureFixture[str], place: Path
    ) -> None:
        self.line = line
        self.client = client
        self._capsys = capsys
        self._place = place

    async def type(self, *arguments: str) -> tuple[int, str]:
        """Exit code and standard output."""
        token = self.line.token("boss", "operator")
        reach = ("--url", self.line.urls["contribution"], "--token", token)
        self._capsys.readouterr()
        code = await asyncio.to_thread(_run, [*arguments, *reach, "--data", str(self._place)])
        return code, self._capsys.readouterr().out

    async def json(self, *arguments: str) -> Any:
        code, out = await self.type(*arguments, "--json")
        return {"code": code, **msgspec.json.decode(out)}

    def file(self, lines: str, header: str = HEADER) -> str:
        path = self._place / "grants.csv"
        path.write_text(header + lines)
        return str(path)


def _run(arguments: list[str]) -> int:
    try:
        found = command.main(args=arguments, standalone_mode=False)
    except OpsError as exc:
        click.echo(str(exc))
        return exc.exit_code
    return found if isinstance(found, int) else Exit.OK


@pytest.fixture
def tell(
    view_redis: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[Callable[[Terminal], Awaitable[None]]], None]:
    def told(story: Callable[[Terminal], Awaitable[None]]) -> None:
        async def scene() -> None:
            async with (
                running_line(view_redis, tmp_path, ("contribution",)) as line,
                httpx.AsyncClient() as http,
            ):
                client = ServiceClient(line, http, "contribution")
                await story(Terminal(line, client, capsys, tmp_path))

        asyncio.run(scene())

    return told


def test_a_grants_life(tell: Callable[[Callable[[Terminal], Awaitable[None]]], None]) -> None:
    async def story(terminal: Terminal) -> None:
        given = ("grant", "ann", "--grant", "g/1", "--source", "device")
        assert await terminal.type(*given, "--weight", "5") == (
            0,
            f"ann has weight 5 (position {len(terminal.line.engine.log):,})\n",
        )
        code, said = await terminal.type(*given, "--weight", "6")
        assert (code, said.partition(":")[0]) == (2, "duplicate_grant")
        await terminal.type("grant", "ann", "--grant", "g2", "--source", "x", "--weight", "5")
        changed = await terminal.json("adjust", "ann", "g2", "--weight", "7", "--forever")
        assert (changed["weight_before"], changed["weight_after"]) == ("5", "12")
        with pytest.raises(UsageError):
            command.main(["adjust", "ann", "g2", "--weight", "7"], standalone_mode=False)
        terminal.line.engine.pass_seconds(1)
        await terminal.line.views.project()
        code, said = await terminal.type("show", "ann")
        assert said.splitlines()[0] == "ann: weight 12, 100.000000 % of the pool"
        assert (await terminal.json("revoke", "ann", "g2"))["weight_after"] == "5"

    tell(story)


def test_a_file_longer_than_the_service_takes_at_once(
    tell: Callable[[Callable[[Terminal], Awaitable[None]]], None],
) -> None:
    many = LINES_AT_ONCE + 200

    async def story(terminal: Terminal) -> None:
        engine = terminal.line.engine
        path = terminal.file("".join(f"u{i},g,device,1,\n" for i in range(many)))
        before = len(engine.log)
        assert await terminal.type("import", path, "--dry-run") == (
            0,
            f"{many:,} would be applied\n",
        )
        assert len(engine.log) == before
        assert await terminal.type("import", path) == (0, f"{many:,} applied\n")
        after = len(engine.log)
        report = await terminal.json("import", path)
        assert (report["code"], report["outcomes"]["applied"]) == (0, many)
        assert [line["line"] for line in report["lines"]] == list(range(2, many + 2))
        assert len(engine.log) == after

    tell(story)


def test_a_file_with_faults(tell: Callable[[Callable[[Terminal], Awaitable[None]]], None]) -> None:
    async def story(terminal: Terminal) -> None:
        before = len(terminal.line.engine.log)
        path = terminal.file("ann,g,device,5,\nann,g,device,6,\nbob,g,device,x,\n")
        code, said = await terminal.type("import", path)
        assert code == 1
        assert said.splitlines() == [
            "line 3: duplicate_grant: Line 2 has the same grant on other terms.",
            "line 4: invalid_weight: weight cannot be used."
            " Allowed: a whole number from 1 to 9223372036854775808.",
            "2 refused",
            "1 not applied, because other lines are refused",
        ]
        assert len(terminal.line.engine.log) == before
        code, said = await terminal.type("import", path, "--partial")
        assert (code, said.splitlines()[2:]) == (1, ["1 applied", "2 refused"])
        code, said = await terminal.type("import", terminal.file("", header=""))
        assert (code, "is empty" in said) == (2, True)

    tell(story)
