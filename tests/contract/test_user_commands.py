"""`durian user` against real PostgreSQL: the first administrator, changes, the outbox."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ops.cli import cli
from ops.errors import UsageError

pytestmark = pytest.mark.services
PASSWORD = "correct horse battery"


class Console:
    """`durian user …` with the accounts' database in the environment."""

    def __init__(self, auth_url: str, data_dir: Path) -> None:
        self._env = {"DURIAN_AUTH_URL": auth_url, "DURIAN_DATA": str(data_dir)}

    def said(self, *arguments: str, typed: str = "") -> str:
        runner = CliRunner()
        found = runner.invoke(
            cli, ["user", *arguments], input=typed, env=self._env, catch_exceptions=False
        )
        assert found.exit_code == 0, found.output
        return found.stdout

    def told(self, *arguments: str, typed: str = "") -> Any:
        return json.loads(self.said(*arguments, "--json", typed=typed))


@pytest.fixture(name="console")
def fixture_console(auth_database: str, tmp_path: Path) -> Console:
    return Console(auth_database, tmp_path)


def test_the_first_administrator_is_made_at_the_machine(console: Console) -> None:
    make = ("create", "--name", "Root", "--role", "admin", "--password-stdin")
    made = console.told(*make, typed=f"{PASSWORD}\n")
    assert (made["role"], made["user_name"], made["state"]) == ("admin", "root", "active")
    assert console.told("show", "root") == made == console.told("show", made["user_id"])
    assert console.told("list", "--role", "admin")["items"] == [made]
    assert made["user_id"] in console.said("list")
    with pytest.raises(UsageError, match="name_taken"):
        console.told(*make, typed=f"{PASSWORD}\n")
    with pytest.raises(UsageError, match="password_too_weak"):
        console.told("create", "--name", "weak", "--password-stdin", typed="1234567890\n")
    with pytest.raises(UsageError, match="last active administrator"):
        console.told("disable", "root")


def test_a_password_is_asked_for_twice(console: Console) -> None:
    console.said("create", "--email", "a@example.org", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert console.told("show", "A@example.org")["email"] == "a@example.org"


def test_accounts_are_changed_and_codes_handed_over(console: Console) -> None:
    console.told("create", "--name", "alice", "--password-stdin", typed=f"{PASSWORD}\n")
    assert console.told("role", "alice", "operator")["role"] == "operator"
    assert console.told("disable", "alice")["state"] == "disabled"
    assert console.told("enable", "alice")["state"] == "active"
    console.told("reset", "alice", "--second-factor")
    (message,) = console.told("outbox")
    assert (message["channel"], message["address"]) == ("operator", "alice")
    assert console.told("outbox") == []
    erased = console.told("erase", "alice", "--yes")
    assert (erased["state"], erased["user_name"]) == ("erased", None)
    with pytest.raises(UsageError, match="unknown_user"):
        console.told("show", "alice")
