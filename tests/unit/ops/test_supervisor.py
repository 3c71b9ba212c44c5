"""ops.supervisor with real child processes: order, restarts, and that nothing outlives it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ops.datadir import DataDir, open_data_dir
from ops.errors import UsageError
from ops.part import Part
from ops.processes import end_processes, find_marked, identify
from ops.stack import end_leftovers
from ops.status import PartStatus, read_state
from ops.supervisor import Supervisor

DEADLINE_S = 20.0

# Says READY=1, notes its life and death in a file, and ends on SIGTERM.
WORKER = """
import os, signal, socket, sys
journal = open(sys.argv[1], "a", buffering=1)
name = os.environ["DURIAN_PART"]
def end(*_):
    journal.write(f"-{name}\\n"); sys.exit(0)
signal.signal(signal.SIGTERM, end)
journal.write(f"+{name}\\n")
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.sendto(b"READY=1\\nSTATUS=at work", os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
"""
# Ready at once, and deaf to every signal that can be ignored.
STUBBORN = WORKER.replace("signal.SIGTERM, end", "signal.SIGTERM, signal.SIG_IGN")


def _worker(name: str, journal: Path, script: str = WORKER, **more: object) -> Part:
    return Part(
        name=name,
        argv=(sys.executable, "-I", "-c", script, str(journal)),
        **more,  # type: ignore[arg-type]
    )


@contextlib.asynccontextmanager
async def _running(data_dir: DataDir, *parts: Part) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(parts, data_dir)
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        supervisor.request_stop()
        await asyncio.wait_for(task, DEADLINE_S)


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "took too long"
        await asyncio.sleep(0.01)


def _wait(condition: Callable[[], bool]) -> None:
    asyncio.run(_until(condition))


def _of(supervisor: Supervisor, name: str) -> PartStatus:
    return next(part for part in supervisor.status().parts if part.name == name)


def test_parts_start_after_what_they_need_and_stop_before_it(tmp_path: Path) -> None:
    journal, data_dir = tmp_path / "journal", open_data_dir(tmp_path / "ledger")
    parts = [
        _worker("server", journal),
        _worker(
            "schema", journal, "import sys; sys.exit(0)", one_shot=True, depends_on=("server",)
        ),
        _worker("engine", journal, depends_on=("schema",), talks_to=("relay",)),
        _worker("relay", journal, depends_on=("schema",)),
    ]

    async def story() -> None:
        async with _running(data_dir, *parts) as supervisor:
            assert await supervisor.wait_ready(DEADLINE_S)
            assert _of(supervisor, "schema").state == "done"
            assert _of(supervisor, "server").text == "at work"

    asyncio.run(story())
    lines = journal.read_text().split()
    assert lines[0] == "+server"
    assert lines[3:] == ["-engine", "-relay", "-server"]
    assert find_marked(data_dir.root) == []
    final = read_state(data_dir)
    assert final is not None
    assert {part.state for part in final.parts} == {"stopped", "done"}


def test_a_killed_part_is_started_again(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path / "ledger")

    async def story() -> None:
        async with _running(data_dir, _worker("engine", tmp_path / "journal")) as supervisor:
            assert await supervisor.wait_ready(DEADLINE_S)
            before = _of(supervisor, "engine").process
            assert before is not None
            os.kill(before.pid, signal.SIGKILL)
            await _until(lambda: _of(supervisor, "engine").restarts == 1)
            assert await supervisor.wait_ready(DEADLINE_S)
            assert _of(supervisor, "engine").process not in (None, before)

    asyncio.run(story())


def test_a_part_that_keeps_dying_is_reported_with_its_exit_code(tmp_path: Path) -> None:
    part = _worker("engine", tmp_path / "journal", "import sys; sys.exit('no database')")
    data_dir = open_data_dir(tmp_path / "ledger")

    async def story() -> None:
        async with _running(data_dir, part) as supervisor:
            await _until(lambda: _of(supervisor, "engine").restarts >= 2)
            assert not await supervisor.wait_ready(0.01)
            await _until(lambda: _of(supervisor, "engine").text == "exit code 1")

    asyncio.run(story())
    assert "no database" in data_dir.log_file("engine").read_text()


def test_a_failing_preparation_is_the_parts_failure_only(tmp_path: Path) -> None:
    def prepare() -> None:
        raise OSError("disk full")

    parts = [
        _worker("broken", tmp_path / "journal", prepare=prepare),
        _worker("sound", tmp_path / "journal"),
    ]

    async def story() -> None:
        async with _running(open_data_dir(tmp_path / "ledger"), *parts) as supervisor:
            await _until(lambda: _of(supervisor, "sound").ready)
            await _until(lambda: _of(supervisor, "broken").text == "disk full")

    asyncio.run(story())


def test_a_part_deaf_to_the_stop_signal_is_killed_after_its_time(tmp_path: Path) -> None:
    part = _worker("deaf", tmp_path / "journal", STUBBORN, stop_timeout_s=0.2)
    data_dir = open_data_dir(tmp_path / "ledger")

    async def story() -> None:
        async with _running(data_dir, part) as supervisor:
            assert await supervisor.wait_ready(DEADLINE_S)

    asyncio.run(story())
    assert find_marked(data_dir.root) == []


def test_a_second_request_to_stop_kills_at_once(tmp_path: Path) -> None:
    part = _worker("deaf", tmp_path / "journal", STUBBORN, stop_timeout_s=3600)

    async def story() -> None:
        async with _running(open_data_dir(tmp_path / "ledger"), part) as supervisor:
            assert await supervisor.wait_ready(DEADLINE_S)
            supervisor.request_stop()
            await _until(lambda: _of(supervisor, "deaf").state == "stopping")

    asyncio.run(story())


def test_a_server_of_others_is_ready_while_it_answers(tmp_path: Path) -> None:
    answers = {"up": True}

    async def probe() -> bool:
        return answers["up"]

    async def story() -> None:
        outside = Part(name="redis", argv=(), probe=probe)
        async with _running(open_data_dir(tmp_path), outside) as supervisor:
            assert await supervisor.wait_ready(DEADLINE_S)
            answers["up"] = False
            await _until(lambda: _of(supervisor, "redis").state == "failed")
            answers["up"] = True
            assert await supervisor.wait_ready(DEADLINE_S)

    asyncio.run(story())


def test_a_log_past_its_size_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.child.LOG_BYTES_MAX", 10)
    data_dir = open_data_dir(tmp_path / "ledger")
    data_dir.log_file("engine").write_text("many lines of yesterday")

    async def story() -> None:
        async with _running(data_dir, _worker("engine", tmp_path / "journal")) as supervisor:
            assert await supervisor.wait_ready(DEADLINE_S)

    asyncio.run(story())
    assert data_dir.log_file("engine").read_text() == ""
    assert (data_dir.logs / "engine.log.1").read_text() == "many lines of yesterday"


@pytest.mark.parametrize(
    "parts",
    [
        [Part(name="a", argv=("x",), depends_on=("b",)), Part(name="b", argv=("x",))],
        [
            Part(name="a", argv=("x",), talks_to=("b",)),
            Part(name="b", argv=("x",), depends_on=("a",)),
        ],
    ],
)
def test_parts_that_would_wait_for_each_other_are_refused(
    tmp_path: Path, parts: list[Part]
) -> None:
    with pytest.raises(UsageError):
        Supervisor(parts, open_data_dir(tmp_path))


SUPERVISOR_PROCESS = """
import asyncio, sys
from pathlib import Path
from ops.datadir import open_data_dir
from ops.part import Part
from ops.supervisor import Supervisor
journal, ledger, *scripts = sys.argv[1:]
parts = [
    Part(name=f"part{n}", argv=(sys.executable, "-I", "-c", script, journal))
    for n, script in enumerate(scripts)
]
asyncio.run(Supervisor(parts, open_data_dir(Path(ledger))).run())
"""


def _kill_supervisor_of(data_dir: DataDir, journal: Path, *scripts: str) -> None:
    argv = [sys.executable, "-c", SUPERVISOR_PROCESS, str(journal), str(data_dir.root), *scripts]
    with subprocess.Popen(argv, cwd=Path(__file__).parents[3]) as process:

        def all_ready() -> bool:
            state = read_state(data_dir)
            return state is not None and state.ready and len(find_marked(data_dir.root)) > 0

        _wait(all_ready)
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for a signal")
def test_parts_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path / "ledger")
    _kill_supervisor_of(data_dir, tmp_path / "journal", WORKER)
    _wait(lambda: find_marked(data_dir.root) == [])
    assert "-part0" in (tmp_path / "journal").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_what_ignored_the_death_of_its_supervisor_is_ended_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.stack.LEFTOVERS_GRACE_S", 0.2)
    data_dir = open_data_dir(tmp_path / "ledger")
    _kill_supervisor_of(data_dir, tmp_path / "journal", STUBBORN)
    assert len(find_marked(data_dir.root)) == 1
    assert len(end_leftovers(data_dir)) == 1
    assert find_marked(data_dir.root) == []


def test_a_stranger_with_a_recorded_pid_is_not_touched() -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-c", "input()"], stdin=subprocess.PIPE
    ) as stranger:
        found = identify(stranger.pid)
        assert found is not None
        recorded = type(found)(found.pid, "an earlier process")
        assert end_processes([recorded], grace_s=0.1) == []
        assert stranger.poll() is None
        stranger.kill()
