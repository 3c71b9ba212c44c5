"""`durian log`: what happened to one user, order or trade; old events into archives and back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from engine.archive import Archive, read_header, require_consecutive, verify_archive
from engine.errors import ArchiveUnusable
from engine.postgres.archive import LogArchivist, LogPartition
from engine.postgres.schema import require_schema
from ops.commands.history import history
from ops.commands.options import data_option, json_option
from ops.config import archive_directory
from ops.console import print_json
from ops.demo.progress import open_progress
from ops.errors import Exit
from ops.log_access import log_config
from ops.servers import postgres

KEEP_PARTITIONS = 2
directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where archives are kept (else `archive` in the data directory).",
)
file_argument = click.Path(path_type=Path, dir_okay=False)


@click.group(commands={"history": history})
def command() -> None:
    """The log: one user's, order's or trade's history; old events archived, checked and restored.

    archive and restore need the rights of the log's owner: DURIAN_POSTGRES_URL, or a stack that
    runs here.
    """


@command.command()
@data_option
@directory_option
@click.option(
    "--keep-partitions",
    type=click.IntRange(0),
    default=KEEP_PARTITIONS,
    show_default=True,
    help="Full partitions to leave in the table.",
)
@click.option("--dry-run", is_flag=True, help="Only say which partitions would be archived.")
@json_option
def archive(
    data: Path | None, directory: Path | None, keep_partitions: int, *, dry_run: bool, as_json: bool
) -> Exit:
    """Move full partitions below the newest snapshot into files, oldest first."""
    place = directory or archive_directory(log_config(data, role=postgres.OWNER))
    with _archivist(data, place) as archivist:
        planned = archivist.archivable(keep_partitions=keep_partitions)
        done = [] if dry_run else [_archive(archivist, partition) for partition in planned]
        newest = archivist.snapshot_position()
    if as_json:
        print_json(
            {
                "directory": str(place),
                "snapshot_position": newest,
                "planned": [_positions(partition) for partition in planned],
                "archived": [_shown(archive) for archive in done],
            }
        )
        return Exit.OK
    for partition in planned if dry_run else ():
        click.echo(f"would archive {partition.first:,} to {partition.last:,}")
    for archived in done:
        click.echo(f"archived {_line(archived)}")
    if not planned:
        click.echo(f"nothing to archive (newest snapshot: position {newest:,})")
    return Exit.OK


@command.command("verify-archive")
@click.argument("files", type=file_argument, nargs=-1, required=True)
@json_option
def verify(files: tuple[Path, ...], *, as_json: bool) -> Exit:
    """Check archives by themselves: density, hash chain, and that one follows the other."""
    checked: list[tuple[Path, Archive]] = []
    findings: list[ArchiveUnusable] = []
    for file in sorted(files, key=lambda path: path.name):
        try:
            checked.append((file, verify_archive(file)))
        except ArchiveUnusable as exc:
            findings.append(exc)
    try:
        require_consecutive(checked)
    except ArchiveUnusable as exc:
        findings.append(exc)
    if as_json:
        print_json(
            {
                "archives": [_shown(archive) for _, archive in checked],
                "findings": [{"file": str(f.path), "reason": f.reason} for f in findings],
            }
        )
    else:
        for _, archive in checked:
            click.echo(f"sound {_line(archive)}")
        for finding in findings:
            click.echo(f"damaged: {finding}", err=True)
    return Exit.WRONG if findings else Exit.OK


@command.command()
@click.argument("file", type=file_argument)
@data_option
@json_option
def restore(file: Path, data: Path | None, *, as_json: bool) -> Exit:
    """Put an archive's events back into the table; the file stays."""
    header = read_header(file)
    total = header.last - header.first + 1
    with (
        _archivist(data, file.parent) as archivist,
        _bar(f"restoring {file.name}", total) as progress,
    ):
        restored = archivist.restore(file, progress)
    if as_json:
        print_json(_shown(restored))
    else:
        click.echo(f"restored {_line(restored)}")
    return Exit.OK


@contextmanager
def _archivist(data: Path | None, directory: Path) -> Iterator[LogArchivist]:
    url = log_config(data, role=postgres.OWNER).postgres_url
    require_schema(url)
    with LogArchivist(url, directory.expanduser().absolute()) as archivist:
        yield archivist


def _archive(archivist: LogArchivist, partition: LogPartition) -> Archive:
    total = partition.last - partition.first + 1
    with _bar(f"archiving {partition.first:,} to {partition.last:,}", total) as progress:
        return archivist.archive(partition, progress)


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    with open_progress() as tasks:
        progress = tasks.task(name, total)
        yield progress
        progress(total)


def _positions(partition: LogPartition) -> dict[str, int]:
    return {"first": partition.first, "last": partition.last}


def _shown(archive: Archive) -> dict[str, Any]:
    return {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in archive._asdict().items()
    }


def _line(archive: Archive) -> str:
    events = archive.last - archive.first + 1
    return (
        f"{archive.first:,} to {archive.last:,}: {archive.file_name}, {archive.bytes:,} bytes "
        f"({archive.bytes / events:.1f} each)"
    )
