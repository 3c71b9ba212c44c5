"""Archives: old events of the log in compressed files, one event a line, to the byte.

A file holds consecutive positions and proves itself: no hole, the hash chain, and the hashes at
both ends, which its header repeats. Which files belong to a log is told by its ledger_archives
table (engine.postgres.archive); here is no database.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple

import msgspec
import zstandard

from engine.errors import ArchiveUnusable, LogCorrupt
from engine.hashing import GENESIS_HASH
from engine.ports import LoggedEvent

COMPRESSION_LEVEL = 3  # half of what is left are hashes: 9 takes thrice as long and saves 3 %
EVENTS_PER_WRITE = 2_000
BYTES_PER_READ = 1 << 16
# Above any line that we write; damage must not ask for all memory.
LINE_BYTES_MAX = 1 << 26
Progress = Callable[[int], object]


class ArchiveHeader(msgspec.Struct, frozen=True, kw_only=True):
    """First line of a file. Hashes: hexadecimal, before its first and at its last event."""

    kind: Literal["durian.log.archive"] = "durian.log.archive"
    format: Literal[1] = 1
    first: int
    last: int
    hash_before: str
    hash_after: str


class ArchivedEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Every other line: one row of the log. event: the payload's exact bytes."""

    position: int
    epoch: int
    stream: str
    version: int
    topic: str
    hash: str
    event: msgspec.Raw


class Archive(NamedTuple):
    """One file that has been checked, as ledger_archives names it."""

    first: int
    last: int
    hash_before: bytes
    hash_after: bytes
    file_name: str
    sha256: bytes
    bytes: int


class LogRow(NamedTuple):
    """One row of the log with all its columns."""

    position: int
    epoch: int
    stream: str
    version: int
    topic: str
    payload: bytes
    hash: bytes


def file_name(first: int, last: int) -> str:
    """Sorts by position."""
    return f"ledger_events_{first:012d}-{last:012d}.jsonl.zst"


# -- writing ----------------------------------------------------------------------------------


def write_archive(
    directory: Path, header: ArchiveHeader, rows: Iterable[LogRow], progress: Progress
) -> Archive:
    """Write, flush to the disk, read back and compare; the file has its name only when complete.

    rows: exactly those of the header. progress: told the number of events written.
    Raises LogCorrupt if they are not what the header says, ArchiveUnusable if the file cannot be
    written or what is read back differs.
    """
    path = directory / file_name(header.first, header.last)
    draft = path.with_name(f".{path.name}.part")
    with _faults_of(path):
        directory.mkdir(parents=True, exist_ok=True)
        _refuse_another_ledgers(path, header)
        with draft.open("wb") as file:
            lines_sha256 = _write_lines(file, header, _checked(header, rows), progress)
            file.flush()
            os.fsync(file.fileno())
        archive, read_sha256 = _verified(draft)
        if read_sha256 != lines_sha256:
            raise ArchiveUnusable(path, "what was read back is not what was written")
        draft.replace(path)
        _flush_directory(directory)
    return archive._replace(file_name=path.name)


def _refuse_another_ledgers(path: Path, header: ArchiveHeader) -> None:
    # An older file of ours is replaced: a run that crashed, or a partition that was restored.
    if path.exists() and read_header(path) != header:
        raise ArchiveUnusable(path, "holds other events: is this another ledger's directory?")


def _write_lines(
    file: IO[bytes], header: ArchiveHeader, rows: Iterator[LogRow], progress: Progress
) -> bytes:
    encoder, sha256, done = msgspec.json.Encoder(), hashlib.sha256(), 0
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=True)
    with compressor.stream_writer(file, closefd=False) as writer:
        lines = encoder.encode_lines([header])
        while lines:
            sha256.update(lines)
            writer.write(lines)
            progress(done)
            page = [_archived(row) for _, row in zip(range(EVENTS_PER_WRITE), rows, strict=False)]
            done += len(page)
            lines = encoder.encode_lines(page)
    return sha256.digest()


def _archived(row: LogRow) -> ArchivedEvent:
    # A line break inside would end the line; the ledger's own JSON has none.
    if b"\n" in row.payload:
        raise LogCorrupt(row.position, "cannot be archived: its payload has a line break")
    return ArchivedEvent(
        position=row.position,
        epoch=row.epoch,
        stream=row.stream,
        version=row.version,
        topic=row.topic,
        hash=row.hash.hex(),
        event=msgspec.Raw(row.payload),
    )


def _checked(header: ArchiveHeader, rows: Iterable[LogRow]) -> Iterator[LogRow]:
    expected, digest = header.first, bytes.fromhex(header.hash_before)
    for row in rows:
        if row.position != expected:
            raise LogCorrupt(expected, f"missing; the next one is {row.position}")
        digest = hashlib.sha256(digest + row.payload).digest()  # engine.hashing.chain, one by one
        if digest != row.hash:
            raise LogCorrupt(row.position, "its hash does not follow from the one before")
        expected += 1
        yield row
    if (expected - 1, digest.hex()) != (header.last, header.hash_after):
        raise LogCorrupt(expected, f"missing; the archive was to end at {header.last}")


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- reading ----------------------------------------------------------------------------------


def read_header(path: Path) -> ArchiveHeader:
    """Raises ArchiveUnusable if there is none."""
    with _faults_of(path), _lines(path) as lines:
        return msgspec.json.decode(next(lines, b""), type=ArchiveHeader)


def read_rows(path: Path) -> Iterator[LogRow]:
    """Every row of a file, each checked before it is given.

    Raises ArchiveUnusable at the first damage, or if the file is missing or ends too early.
    """
    with _faults_of(path), _lines(path) as lines:
        header = msgspec.json.decode(next(lines, b""), type=ArchiveHeader)
        try:
            yield from _checked(header, _decoded(lines))
        except LogCorrupt as exc:
            raise ArchiveUnusable(path, f"position {exc.position}: {exc.reason}") from exc


def verify_archive(path: Path, progress: Progress = lambda _: None) -> Archive:
    """Read a whole file and check it. progress: told the number of events read.

    Raises ArchiveUnusable.
    """
    with _faults_of(path):
        return _verified(path, progress)[0]


def _verified(path: Path, progress: Progress = lambda _: None) -> tuple[Archive, bytes]:
    """The archive, and SHA-256 of its lines."""
    sha256 = hashlib.sha256()
    with _lines(path, sha256.update) as lines:
        header = msgspec.json.decode(next(lines, b""), type=ArchiveHeader)
        try:
            for number, _ in enumerate(_checked(header, _decoded(lines)), start=1):
                if number % EVENTS_PER_WRITE == 0:
                    progress(number)
        except LogCorrupt as exc:
            raise ArchiveUnusable(path, f"position {exc.position}: {exc.reason}") from exc
    with path.open("rb") as file:
        file_sha256 = hashlib.file_digest(file, "sha256").digest()
    archive = Archive(
        header.first,
        header.last,
        bytes.fromhex(header.hash_before),
        bytes.fromhex(header.hash_after),
        path.name,
        file_sha256,
        path.stat().st_size,
    )
    return archive, sha256.digest()


@contextmanager
def _lines(path: Path, watch: Callable[[bytes], object] | None = None) -> Iterator[Iterator[bytes]]:
    with path.open("rb") as file:
        yield _each_line(_plain(file), watch)


def _plain(file: IO[bytes]) -> Iterator[bytes]:
    # Not zstandard's stream_reader: it takes a file that was cut off for one that ends there.
    frame = zstandard.ZstdDecompressor().decompressobj()
    while compressed := file.read(BYTES_PER_READ):
        yield frame.decompress(compressed)
        if frame.unused_data:
            raise ValueError("something follows its end")
    if not frame.eof:
        raise ValueError("it ends too early")


def _each_line(plain: Iterator[bytes], watch: Callable[[bytes], object] | None) -> Iterator[bytes]:
    begun = b""
    for piece in plain:
        if watch is not None:
            watch(piece)
        *lines, begun = (begun + piece).split(b"\n")
        if len(begun) > LINE_BYTES_MAX:
            raise ValueError("a line is too long")
        yield from lines
    if begun:
        raise ValueError("it ends within a line")


def _decoded(lines: Iterator[bytes]) -> Iterator[LogRow]:
    decoder = msgspec.json.Decoder(ArchivedEvent)
    for line in lines:
        row = decoder.decode(line)
        yield LogRow(
            row.position,
            row.epoch,
            row.stream,
            row.version,
            row.topic,
            bytes(row.event),
            bytes.fromhex(row.hash),
        )


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as exc:
        raise ArchiveUnusable(path, "is missing") from exc
    except OSError as exc:
        raise ArchiveUnusable(path, f"cannot be read or written: {exc.strerror or exc}") from exc
    except (zstandard.ZstdError, msgspec.DecodeError, ValueError) as exc:
        raise ArchiveUnusable(path, f"is damaged: {exc}") from exc


# -- the archived part of a log ---------------------------------------------------------------


class ArchivedLog:
    """The files of a log's archives, in one directory. archives: of ledger_archives, in order."""

    def __init__(self, directory: Path, archives: Iterable[Archive]) -> None:
        self._directory = directory
        self._archives = sorted(archives)

    def following(self, position: int) -> Archive | None:
        """The archive with the next archived event after a position."""
        return next((archive for archive in self._archives if archive.last > position), None)

    def read(self, after: int = 0) -> Iterator[LoggedEvent]:
        """Archived events after a position, as far as one archive follows the other.

        Raises ArchiveUnusable, which names the file, if one is missing or not what it was.
        """
        archive = self.following(after)
        while archive is not None and archive.first <= after + 1:
            for row in self._rows(archive):
                if row.position > after:
                    yield LoggedEvent(row.position, row.stream, row.payload, row.hash)
            after = archive.last
            archive = self.following(after)

    def _rows(self, archive: Archive) -> Iterator[LogRow]:
        path = self._directory / archive.file_name
        header = read_header(path)
        kept = (header.first, header.last, header.hash_before, header.hash_after)
        if kept != (
            archive.first,
            archive.last,
            archive.hash_before.hex(),
            archive.hash_after.hex(),
        ):
            raise ArchiveUnusable(path, "is not the file that was archived")
        return read_rows(path)


def require_consecutive(archives: Iterable[tuple[Path, Archive]]) -> None:
    """Raises ArchiveUnusable for the first file that does not follow the one before it."""
    before: Archive | None = None
    for path, archive in archives:
        if before is not None and archive.first != before.last + 1:
            raise ArchiveUnusable(path, f"does not follow: the one before ends at {before.last}")
        if before is not None and archive.hash_before != before.hash_after:
            raise ArchiveUnusable(path, "its chain does not follow from the file before")
        if archive.first == 1 and archive.hash_before != GENESIS_HASH:
            raise ArchiveUnusable(path, "does not begin with the first hash of every log")
        before = archive
