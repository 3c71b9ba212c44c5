"""ops.cli: commands load when asked for, a missing one breaks no other, faults are exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ops.cli import COMMANDS, Lazy, run
from ops.errors import Exit
from ops.tokens import ROLES


def test_help_lists_every_command_without_loading_any() -> None:
    program = (
        "import sys, ops.cli; code = ops.cli.run(['--help']); "
        "sys.exit(code or any(m.startswith('ops.commands.') for m in sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert all(name in answer.stdout for name in COMMANDS)


def test_a_command_that_is_not_installed_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "absent", Lazy("ops.commands.no_such_module:command", ""))
    assert run(["absent"]) == Exit.USAGE
    assert "absent" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["no-such-command"], ["status", "--no-such-option"]])
def test_usage_errors_exit_with_two(arguments: list[str]) -> None:
    assert run(arguments) == Exit.USAGE


def test_a_bad_variable_exits_with_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DURIAN_CLOCK", "sundial")
    assert run(["config"]) == Exit.USAGE
    assert "DURIAN_CLOCK" in capsys.readouterr().err


def test_status_of_nothing_says_so_with_exit_code_three(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "--data", str(tmp_path / "none"), "--json"]) == Exit.DEPENDENCY_DOWN
    assert json.loads(capsys.readouterr().out)["ready"] is False
    assert not (tmp_path / "none").exists()


def test_down_of_nothing_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["down", "--data", str(tmp_path)]) == Exit.OK
    assert "nothing runs" in capsys.readouterr().out


@pytest.mark.parametrize("role", ROLES)
def test_token_prints_a_bearer_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], role: str
) -> None:
    arguments = ["token", "--user", "u-1", "--role", role, "--data", str(tmp_path)]
    assert run(arguments) == Exit.OK
    assert capsys.readouterr().out.count(".") == 2


def test_token_refuses_an_unknown_role(tmp_path: Path) -> None:
    arguments = ["token", "--user", "u", "--role", "king", "--data", str(tmp_path)]
    assert run(arguments) == Exit.USAGE


def test_config_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["ports"]["trading"]


def test_doctor_looks_at_everything_up_needs_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["doctor", "--data", str(tmp_path / "none"), "--json"])
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert set(findings) == {"postgres", "redis", "java", "kafka", "disk", "ports"}
    assert (code == Exit.OK) == all(finding["is_fine"] for finding in findings.values())
    assert not (tmp_path / "none").exists()


def test_doctor_does_not_ask_for_servers_that_others_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("DURIAN_REDIS_URL", "redis://:secret@views:6379")
    run(["doctor", "--json"])
    shown = capsys.readouterr().out
    findings = {finding["name"]: finding["is_fine"] for finding in json.loads(shown)}
    assert findings["redis"] and not findings["java"]
    assert "secret" not in shown
