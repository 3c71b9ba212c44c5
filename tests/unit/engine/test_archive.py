"""Archive files by themselves: exact bytes, and that no damage goes unnoticed."""

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import zstandard

from engine.archive import (
    Archive,
    ArchivedLog,
    ArchiveHeader,
    LogRow,
    file_name,
    read_rows,
    require_consecutive,
    verify_archive,
    write_archive,
)
from engine.errors import ArchiveUnusable, LogCorrupt
from engine.hashing import GENESIS_HASH, chain
from engine.ports import LoggedEvent

Payloads = Sequence[bytes]
SOME = [b'{"n":%d,"t":"\xc3\xbc"}' % number for number in range(1, 101)]


def _rows(payloads: Payloads, *, first: int = 1, before: bytes = GENESIS_HASH) -> list[LogRow]:
    return [
        LogRow(position, 2, f"s{position % 3}", position, "t:1", payload, digest)
        for position, (payload, digest) in enumerate(
            zip(payloads, chain(before, payloads), strict=True), start=first
        )
    ]


def _header(rows: list[LogRow], before: bytes = GENESIS_HASH) -> ArchiveHeader:
    return ArchiveHeader(
        first=rows[0].position,
        last=rows[-1].position,
        hash_before=before.hex(),
        hash_after=rows[-1].hash.hex(),
    )


def _written(directory: Path, rows: list[LogRow], before: bytes = GENESIS_HASH) -> Archive:
    return write_archive(directory, _header(rows, before), rows, lambda _: None)


def _three(directory: Path) -> list[Archive]:
    before, found = GENESIS_HASH, []
    for first in (1, 101, 201):
        rows = _rows(SOME, first=first, before=before)
        found.append(_written(directory, rows, before))
        before = rows[-1].hash
    return found


def test_rows_come_back_to_the_byte(tmp_path: Path) -> None:
    rows = _rows([b"{}", b'{"a": 1.50, "z":[]}', b'"\\u00fc"', b"null", *SOME])
    archive = _written(tmp_path / "new", rows)
    path = tmp_path / "new" / archive.file_name
    assert list(read_rows(path)) == rows
    assert verify_archive(path) == archive
    assert (archive.first, archive.last, archive.hash_after) == (1, 104, rows[-1].hash)
    assert [file.name for file in path.parent.iterdir()] == [file_name(1, 104)]


def test_a_file_can_be_read_without_us(tmp_path: Path) -> None:
    archive = _written(tmp_path, _rows(SOME))
    with (tmp_path / archive.file_name).open("rb") as file:
        plain = zstandard.ZstdDecompressor().stream_reader(file).read()
    header, *events = (msgspec.json.decode(line) for line in plain.splitlines())
    assert header == {
        "kind": "durian.log.archive",
        "format": 1,
        "first": 1,
        "last": 100,
        "hash_before": "00" * 32,
        "hash_after": archive.hash_after.hex(),
    }
    assert events[6] == {
        "position": 7,
        "epoch": 2,
        "stream": "s1",
        "version": 7,
        "topic": "t:1",
        "hash": _rows(SOME)[6].hash.hex(),
        "event": {"n": 7, "t": "\u00fc"},
    }


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda rows: rows[:-1], "missing"),
        (lambda rows: rows[1:], "missing"),
        (lambda rows: rows[:40] + rows[41:], "missing"),
        (lambda rows: [*rows[:40], rows[40]._replace(payload=b"{}"), *rows[41:]], "hash"),
        (lambda rows: [*rows[:40], rows[40]._replace(hash=bytes(32)), *rows[41:]], "hash"),
    ],
)
def test_a_damaged_log_is_not_archived(tmp_path: Path, damage: object, reason: str) -> None:
    rows = _rows(SOME)
    assert callable(damage)
    with pytest.raises(LogCorrupt, match=reason):
        write_archive(tmp_path, _header(rows), damage(rows), lambda _: None)
    assert not (tmp_path / file_name(1, 100)).exists()


@pytest.mark.parametrize("payload", [b'{"a":\n1}', b"not json", b" {}", b""])
def test_a_payload_that_would_not_come_back_is_refused(tmp_path: Path, payload: bytes) -> None:
    with pytest.raises((LogCorrupt, ArchiveUnusable)):
        _written(tmp_path, _rows([b"{}", payload]))
    assert not (tmp_path / file_name(1, 2)).exists()


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    archive = _written(tmp_path, _rows(SOME))
    path = tmp_path / archive.file_name
    sound = path.read_bytes()
    chance = random.Random(4)
    # The frame's own header has bits without a meaning; the digest in ledger_archives has them.
    for place in chance.sample(range(6, len(sound)), 150):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 0x10]) + sound[place + 1 :])
        with pytest.raises(ArchiveUnusable, match=archive.file_name):
            verify_archive(path)
    for length in (0, 1, len(sound) // 2, len(sound) - 1):
        path.write_bytes(sound[:length])
        with pytest.raises(ArchiveUnusable):
            verify_archive(path)
    path.write_bytes(sound + b"x")
    with pytest.raises(ArchiveUnusable):
        verify_archive(path)
    path.unlink()
    with pytest.raises(ArchiveUnusable, match="is missing"):
        verify_archive(path)


def test_a_left_over_draft_is_overwritten(tmp_path: Path) -> None:
    draft = tmp_path / f".{file_name(1, 100)}.part"
    draft.write_bytes(b"half of it" * 1_000)
    archive = _written(tmp_path, _rows(SOME))
    assert verify_archive(tmp_path / archive.file_name) == archive
    assert not draft.exists()
    assert _written(tmp_path, _rows(SOME)) == archive  # a run that died before the last step


def test_another_ledgers_file_is_not_overwritten(tmp_path: Path) -> None:
    archive = _written(tmp_path, _rows(SOME))
    with pytest.raises(ArchiveUnusable, match="another ledger"):
        _written(tmp_path, _rows([*SOME[:-1], b'{"other":1}']))
    assert verify_archive(tmp_path / archive.file_name) == archive


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArchiveUnusable, match="file"):
        _written(tmp_path / "file", _rows(SOME))


@pytest.mark.parametrize("after", [0, 1, 99, 100, 101, 250, 299, 300, 301])
def test_archives_read_as_one_log(tmp_path: Path, after: int) -> None:
    archived = ArchivedLog(tmp_path, _three(tmp_path))
    read = list(archived.read(after))
    assert [event.position for event in read] == list(range(after + 1, 301))
    assert all(isinstance(event, LoggedEvent) for event in read)


def test_reading_ends_where_no_archive_follows(tmp_path: Path) -> None:
    first, _, third = _three(tmp_path)
    archived = ArchivedLog(tmp_path, [third, first])
    assert [event.position for event in archived.read(50)] == list(range(51, 101))
    assert list(archived.read(100)) == []
    assert archived.following(100) == third
    assert archived.following(300) is None


def test_a_missing_or_exchanged_file_is_named(tmp_path: Path) -> None:
    archives = _three(tmp_path)
    second = tmp_path / archives[1].file_name
    second.replace(tmp_path / "aside")
    with pytest.raises(ArchiveUnusable, match=rf"{archives[1].file_name}.*is missing"):
        list(ArchivedLog(tmp_path, archives).read())
    _written(tmp_path, _rows(SOME, first=101, before=bytes(range(32))), bytes(range(32)))
    with pytest.raises(ArchiveUnusable, match=rf"{archives[1].file_name}.*not the file"):
        list(ArchivedLog(tmp_path, archives).read())


def test_files_must_follow_each_other(tmp_path: Path) -> None:
    first, second, third = ((tmp_path / a.file_name, a) for a in _three(tmp_path))
    require_consecutive([first, second, third])
    require_consecutive([second])
    with pytest.raises(ArchiveUnusable, match="the one before ends at 100"):
        require_consecutive([first, third])
    foreign = (second[0], second[1]._replace(hash_before=bytes(32)))
    with pytest.raises(ArchiveUnusable, match="its chain does not follow"):
        require_consecutive([first, foreign])
    with pytest.raises(ArchiveUnusable, match="first hash of every log"):
        require_consecutive([(first[0], first[1]._replace(hash_before=bytes(range(32))))])
