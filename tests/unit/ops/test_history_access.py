"""ops.history_access: where a command finds the deep history."""

from pathlib import Path

import pytest

from ops.errors import ServerUnavailable
from ops.history_access import history_config
from ops.servers import postgres

LOG = "postgresql://o:p@h:5/durian_ledger"
ELSEWHERE = "postgresql://o:p@other:6/deep"


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"DURIAN_HISTORY_URL": ELSEWHERE, "DURIAN_POSTGRES_URL": LOG}, ELSEWHERE),
        ({"DURIAN_POSTGRES_URL": LOG}, "postgresql://o:p@h:5/trading_db"),
    ],
)
def test_addresses_of_the_environment_are_taken_as_they_are(
    environment: dict[str, str], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DURIAN_HISTORY_URL", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert history_config(None, role=postgres.OWNER).history_url == found


def test_without_one_a_stack_must_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DURIAN_HISTORY_URL", "DURIAN_POSTGRES_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ServerUnavailable, match="nothing runs in"):
        history_config(tmp_path, role=postgres.HISTORY_READER)
