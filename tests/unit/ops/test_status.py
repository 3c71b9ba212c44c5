"""ops.status and ops.console: what lies in state.json and what people and programs see of it."""

import io
import os
import stat
from pathlib import Path

from ops.console import PlainReport, address_lines
from ops.datadir import open_data_dir
from ops.processes import ProcessId, identify
from ops.status import PartStatus, StackStatus, describe, read_state, running_state, write_state


def _stack(supervisor: ProcessId, *parts: PartStatus) -> StackStatus:
    ready = all(part.ready for part in parts)
    return StackStatus(data="/ledger", supervisor=supervisor, ready=ready, parts=parts)


def _here() -> ProcessId:
    found = identify(os.getpid())
    assert found is not None
    return found


API = PartStatus(
    name="api",
    state="ready",
    ready=True,
    process=ProcessId(7, "then"),
    addresses={"trading": {"url": "http://h:1"}, "mining": {"url": "http://h:2"}},
)
REDIS = PartStatus(
    name="redis", state="ready", ready=True, addresses={"redis": {"url": "redis://:secret@h:3"}}
)


def test_the_state_file_round_trips_and_is_private(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    assert read_state(data_dir) is None
    status = _stack(_here(), API, REDIS)
    write_state(data_dir, status)
    assert read_state(data_dir) == status
    assert stat.S_IMODE(data_dir.state_file.stat().st_mode) == 0o600


def test_a_stack_runs_only_while_that_very_supervisor_lives(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    write_state(data_dir, _stack(_here(), API))
    assert running_state(data_dir) is not None
    write_state(data_dir, _stack(ProcessId(os.getpid(), "another life of this pid"), API))
    assert running_state(data_dir) is None


def test_a_part_appears_under_each_of_its_names() -> None:
    shown = describe(_stack(_here(), API), alive=True)["parts"]
    assert isinstance(shown, dict)
    assert set(shown) == {"trading", "mining"}
    assert shown["trading"]["url"] == "http://h:1"
    assert (shown["trading"]["part"], shown["trading"]["pid"]) == ("api", 7)


def test_nothing_of_a_dead_stack_is_shown_as_ready() -> None:
    shown = describe(_stack(_here(), API), alive=False)
    assert shown["ready"] is False
    parts = shown["parts"]
    assert isinstance(parts, dict)
    assert parts["trading"]["ready"] is False


def test_plain_output_says_each_change_once_and_hides_passwords() -> None:
    out = io.StringIO()
    report = PlainReport(out)
    starting = PartStatus(name="redis", state="starting", addresses=REDIS.addresses)
    for part in (starting, starting, REDIS, REDIS):
        report.show(_stack(_here(), part))
    lines = out.getvalue().splitlines()
    assert [line.split()[:2] for line in lines] == [["redis", "starting"], ["redis", "ready"]]
    assert "secret" not in out.getvalue()
    assert "secret" not in "".join(address_lines(_stack(_here(), REDIS)))
