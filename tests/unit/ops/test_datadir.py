"""ops.datadir: secrets are made once and kept private, settings hold for life."""

import stat
from pathlib import Path

import msgspec
import pytest

from ops.datadir import (
    CURRENT_STACKS_MAX,
    DataDir,
    load_secrets,
    load_settings,
    open_data_dir,
    remember_started,
    started_stacks,
    write_atomic,
)
from ops.errors import UsageError


def test_secrets_are_made_once_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path / "ledger")
    made = load_secrets(data_dir)
    assert load_secrets(data_dir) == made
    assert stat.S_IMODE((data_dir.root / "secrets.json").stat().st_mode) == 0o600
    assert len({made.postgres_owner, made.log_writer, made.log_reader, made.redis}) == 4
    assert len(made.kafka_cluster_id) == 22


def test_a_ledger_keeps_the_clock_it_was_started_on(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    assert load_settings(data_dir, "virtual").clock == "virtual"
    assert load_settings(data_dir, None).clock == "virtual"
    with pytest.raises(UsageError, match="virtual clock"):
        load_settings(data_dir, "wall")


def test_a_directory_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="data directory"):
        open_data_dir(tmp_path / "file" / "ledger")


def test_replacing_a_file_leaves_no_draft(tmp_path: Path) -> None:
    target = tmp_path / "state.json"
    write_atomic(target, b"1")
    write_atomic(target, b"2")
    assert target.read_bytes() == b"2"
    assert list(tmp_path.iterdir()) == [target]


def test_started_stacks_are_listed_oldest_first_without_repetition(tmp_path: Path) -> None:
    first, second = DataDir(tmp_path / "a"), DataDir(tmp_path / "b")
    assert started_stacks(tmp_path) == []
    for data_dir in (first, second, first):
        remember_started(data_dir, tmp_path)
    assert started_stacks(tmp_path) == [second.root, first.root]


def test_the_list_of_started_stacks_is_bounded(tmp_path: Path) -> None:
    for number in range(CURRENT_STACKS_MAX + 5):
        remember_started(DataDir(tmp_path / str(number)), tmp_path)
    assert len(started_stacks(tmp_path)) == CURRENT_STACKS_MAX


def test_secrets_that_an_older_program_did_not_make_are_added(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    path = data_dir.root / "secrets.json"
    made = msgspec.json.decode(msgspec.json.encode(load_secrets(data_dir)))
    old = {name: made[name] for name in made if not name.startswith("history_")}
    path.write_bytes(msgspec.json.encode(old))
    completed = load_secrets(data_dir)
    assert completed.history_writer and completed.history_reader != completed.history_writer
    assert (completed.postgres_owner, completed.redis) == (old["postgres_owner"], old["redis"])
    assert load_secrets(data_dir) == completed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
