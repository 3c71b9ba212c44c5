"""docs/tutorial.md as somebody new follows it: its blocks in one bash, on a stack they start."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
SECONDS_MAX = 280
PORTS = {
    "CONTRIBUTION": 3020,
    "MINING": 3021,
    "TRADING": 3022,
    "ADMIN": 3023,
    "AUTH": 3024,
    "STREAM": 3025,
}
# What differs from run to run wherever it stands.
VOLATILE = {
    "user_id",
    "session_id",
    "withdrawal_id",
    "record_id",
    "created_time",
    "decided_time",
    "open_time",
    "close_time",
    "time",
    "position",
    "first_position",
    "last_position",
    "decided_by",
    "next_cursor",
}
_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """Commands, and what they print. is_loose: of values only the shape is promised."""

    line: int
    code: str
    kind: str = ""
    expected: str = ""
    is_loose: bool = False


class Ran(NamedTuple):
    status: str
    printed: str
    complained: str


def blocks(page: str) -> list[Block]:
    found: list[Block] = []
    for fence in _FENCE.finditer(page):
        language, marks, text = fence.groups()
        if language == "sh":
            found.append(Block(page[: fence.start()].count("\n") + 1, text))
        elif found and not found[-1].kind:
            found[-1] = found[-1]._replace(kind=language, expected=text, is_loose="loose" in marks)
    return found


def alike(expected: Any, answered: Any, *, is_loose: bool, name: str = "") -> str:
    """Where they differ in more than they may; "" if they do not."""
    if isinstance(expected, dict) and isinstance(answered, dict):
        if expected.keys() != answered.keys():
            return f"{name}: {sorted(answered)} instead of {sorted(expected)}"
        pairs = [(key, expected[key], answered[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(answered, list):
        if len(expected) != len(answered) and not is_loose:
            return f"{name}: {len(answered)} items instead of {len(expected)}"
        pairs = [(name, *both) for both in zip(expected, answered, strict=False)]
    else:
        is_free = is_loose or name in VOLATILE
        is_same = type(expected) is type(answered) if is_free else expected == answered
        return "" if is_same else f"{name}: {answered!r} instead of {expected!r}"
    told = (alike(one, other, is_loose=is_loose, name=key) for key, one, other in pairs)
    return next(filter(None, told), "")


def difference(block: Block, printed: str) -> str:
    if block.kind == "json":
        try:
            answered = json.loads(printed)
        except json.JSONDecodeError:
            return "no JSON"
        return alike(json.loads(block.expected), answered, is_loose=block.is_loose)
    expected, answered = block.expected.splitlines(), printed.splitlines()
    if block.is_loose:
        # Each kind of line that is promised has come; numbers are only numbers.
        expected, answered = [[_shape(line) for line in lines] for lines in (expected, answered)]
        missing = [line for line in expected if line not in answered]
        return f"missing: {missing}" if missing else ""
    return "" if expected == answered else "another text"


def _shape(line: str) -> str:
    return " ".join(re.sub(r"[0-9][0-9.,:]*", "N", line).split())


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _script(found: list[Block], directory: Path) -> str:
    lines = ["set -uo pipefail"]
    for number, block in enumerate(found):
        output = shlex.quote(str(directory / f"{number}"))
        lines.append(f"{{\n{block.code}\n}} > {output}.out 2> {output}.err; echo $? > {output}.rc")
    return "\n".join(lines)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """Where the page is followed: like a checkout, but not ours."""
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    yield tmp_path
    subprocess.run(
        [sys.executable, "-m", "ops", "down", "--data", str(tmp_path / "tutorial-ledger")],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )


@pytest.mark.services
def test_every_block_does_what_the_page_says(checkout: Path) -> None:
    page = TUTORIAL.read_text(encoding="utf-8")
    environment = {name: text for name, text in os.environ.items() if "DURIAN" not in name}
    for (name, usual), port in zip(PORTS.items(), _free_ports(len(PORTS)), strict=True):
        environment[f"DURIAN_PORT_{name}"] = str(port)
        page = page.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{port}")
    found, outputs = blocks(page), checkout / "outputs"
    outputs.mkdir()
    subprocess.run(
        ["bash", "-c", _script(found, outputs)],
        cwd=checkout,
        env=environment,
        timeout=SECONDS_MAX,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    wrong = []
    for number, block in enumerate(found):
        ran = Ran(*(_read(outputs / f"{number}.{end}") for end in ("rc", "out", "err")))
        problem = difference(block, ran.printed) if block.kind else ""
        if problem or ran.status.strip() != "0":
            wrong.append(
                f"line {block.line}, exit {ran.status.strip()}: {problem}\n{block.code}"
                f"-> {ran.printed[:2_000]}\n{ran.complained[-1_000:]}"
            )
    assert not wrong, "\n".join(wrong)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def test_only_what_may_differ_may_differ() -> None:
    page = '```sh\na\n```\n```json\n{"position": 1, "code": "x"}\n```\n```sh\nb\n```\n'
    first, second = blocks(page)
    assert (first.code, first.kind, second.kind) == ("a\n", "json", "")
    assert difference(first, '{"position": 7, "code": "x"}') == ""
    assert difference(first, '{"position": "7", "code": "x"}')
    assert difference(first, '{"position": 7, "code": "y"}')
    assert difference(first, '{"position": 7}')
    assert difference(first._replace(is_loose=True), '{"position": 7, "code": "y"}') == ""
