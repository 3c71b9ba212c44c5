"""Work in the background: asked for by an administrator, claimed by a runner, one of a kind and
name at a time.

A runner says that it lives every few seconds; a job whose runner was not heard for
SILENT_SECONDS_MAX is lost and may be asked for again. A runner that finds its job taken from it
ends the work.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from psycopg import errors

from gateway.database import Connection, Database
from gateway.desk import records
from gateway.desk.intents import Actor
from gateway.desk.records import Entry
from gateway.errors import Refusal
from schemas.wire import Page, WireCode
from schemas.wire_administration import Job, JobDetail, JobKind, JobName, JobState

SILENT_SECONDS_MAX: Final = 15
RESULT_CHARS_MAX: Final = 64 * 1024
LOG_LINES_MAX: Final = 50

_COLUMNS = """id, kind, name, state, requested_by,
    (extract(epoch FROM requested_at) * 1000)::bigint,
    (extract(epoch FROM started_at) * 1000)::bigint,
    (extract(epoch FROM finished_at) * 1000)::bigint,
    progress_ppm, eta_seconds, is_cancelling, exit_code"""
_INSERT = f"""
INSERT INTO jobs (kind, name, requested_by) VALUES (%s, %s, %s) RETURNING {_COLUMNS}
""".encode()
_CLAIM = f"""
UPDATE jobs SET state = 'running', runner = %s, started_at = clock_timestamp(),
    heard_at = clock_timestamp()
WHERE id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING {_COLUMNS}
""".encode()
_HEARD = """
UPDATE jobs SET heard_at = clock_timestamp(), progress_ppm = %s, eta_seconds = %s, log_tail = %s
WHERE id = %s AND runner = %s AND state = 'running' RETURNING is_cancelling
"""
_FINISH = """
UPDATE jobs SET state = %s, finished_at = clock_timestamp(), exit_code = %s, result = %s,
    log_tail = %s, eta_seconds = NULL,
    progress_ppm = CASE WHEN %s IN ('done', 'found_wrong') THEN 1000000 ELSE progress_ppm END
WHERE id = %s AND runner = %s AND state = 'running' RETURNING kind
"""
_LOSE = """
UPDATE jobs SET state = 'lost', finished_at = clock_timestamp(), eta_seconds = NULL
WHERE state = 'running' AND heard_at < clock_timestamp() - make_interval(secs => %s)
RETURNING id, kind
"""
_CANCEL = f"""
UPDATE jobs SET is_cancelling = (state = 'running'),
    finished_at = CASE WHEN state = 'queued' THEN clock_timestamp() END,
    state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END
WHERE id = %s AND state IN ('queued', 'running') RETURNING {_COLUMNS}
""".encode()
RUNNER: Final = Actor(who="jobs", role="part", request_id="-")


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What a runner says of its job while it works."""

    progress_ppm: int
    eta_seconds: int | None
    log_tail: str


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended. exit_code: of its command, None if it was not run to the end."""

    state: JobState
    exit_code: int | None
    result: str
    log_tail: str


class Jobs:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, *, state: JobState | None, before: int | None, limit: int) -> Page[Job]:
        """The newest first; next_cursor is the last one's id."""
        condition = "true" if state is None else "state = %(state)s"
        query = f"""SELECT {_COLUMNS} FROM jobs WHERE {condition}
            AND (%(before)s::bigint IS NULL OR id < %(before)s) ORDER BY id DESC LIMIT %(limit)s"""
        asked = {"state": state, "before": before, "limit": limit + 1}
        async with self._database.transaction() as connection:
            rows = await (await connection.execute(query.encode(), asked)).fetchall()
        items = tuple(_job(row) for row in rows[:limit])
        return Page(items=items, next_cursor=str(items[-1].id) if len(rows) > limit else None)

    async def get(self, job_id: int) -> JobDetail:
        """Raises Refusal(unknown_job)."""
        query = f"SELECT {_COLUMNS}, result, log_tail FROM jobs WHERE id = %s".encode()
        async with self._database.transaction() as connection:
            row = await (await connection.execute(query, (job_id,))).fetchone()
        if row is None:
            raise _unknown(job_id)
        *columns, result, log_tail = row
        log = tuple(log_tail.splitlines())
        return JobDetail(job=_job(tuple(columns)), result=result, log=log)

    async def claim(self, runner: str) -> Job | None:
        """The oldest that waits, now this runner's; None if none does."""
        async with self._database.transaction() as connection:
            row = await (await connection.execute(_CLAIM, (runner,))).fetchone()
        return None if row is None else _job(row)

    async def heard(self, job_id: int, runner: str, said: Heard) -> bool:
        """True if the work is to go on; False if it was cancelled or given to another runner."""
        asked = (said.progress_ppm, said.eta_seconds, _text(said.log_tail), job_id, runner)
        async with self._database.transaction() as connection:
            row = await (await connection.execute(_HEARD, asked)).fetchone()
        return row is not None and not row[0]

    async def finish(self, job: Job, runner: str, ended: Ended) -> None:
        """Keep and record how it ended, unless the job is another's by now."""
        asked = (
            ended.state,
            ended.exit_code,
            _text(ended.result),
            _text(ended.log_tail),
            ended.state,
            job.id,
            runner,
        )
        async with self._database.transaction() as connection:
            if await (await connection.execute(_FINISH, asked)).fetchone() is not None:
                details = {"state": ended.state, "exit_code": ended.exit_code}
                await _record(connection, RUNNER, f"finish_{job.kind}", job.id, details)

    async def lose_silent(self, *, silent_seconds_max: int = SILENT_SECONDS_MAX) -> list[int]:
        """Mark those whose runner is not heard any more."""
        async with self._database.transaction() as connection:
            rows = await (await connection.execute(_LOSE, (silent_seconds_max,))).fetchall()
            for job_id, kind in rows:
                await _record(connection, RUNNER, f"lose_{kind}", job_id, {})
        return [job_id for job_id, _ in rows]


async def queue(connection: Connection, actor: Actor, kind: JobKind, name: JobName) -> Job:
    """Ask for a job, and record it. Raises Refusal(job_running)."""
    with _one_at_a_time(kind, name):
        async with connection.transaction():
            row = await (await connection.execute(_INSERT, (kind, name, actor.who))).fetchone()
    assert row is not None, "an insert gives its row"
    job = _job(row)
    await _record(connection, actor, f"start_{kind}", job.id, {"name": name})
    return job


async def cancel(connection: Connection, actor: Actor, job_id: int) -> Job:
    """End it: at once if it waits, soon if it runs; as it was if it is over.

    Raises Refusal(unknown_job).
    """
    row = await (await connection.execute(_CANCEL, (job_id,))).fetchone()
    if row is not None:
        job = _job(row)
        await _record(connection, actor, f"cancel_{job.kind}", job.id, {})
        return job
    query = f"SELECT {_COLUMNS} FROM jobs WHERE id = %s".encode()
    row = await (await connection.execute(query, (job_id,))).fetchone()
    if row is None:
        raise _unknown(job_id)
    return _job(row)


@contextlib.contextmanager
def _one_at_a_time(kind: JobKind, name: JobName) -> Iterator[None]:
    try:
        yield
    except errors.UniqueViolation as exc:
        raise Refusal(
            WireCode.JOB_RUNNING, f"A {kind} of {name} waits or runs.", {"kind": kind, "name": name}
        ) from exc


async def _record(
    connection: Connection, actor: Actor, action: str, job_id: int, details: records.Details
) -> None:
    entry = Entry(
        who=actor.who,
        role=actor.role,
        request_id=actor.request_id,
        action=action,
        target=f"job:{job_id}",
        details=details,
    )
    await records.append(connection, entry)


def _job(row: tuple[Any, ...]) -> Job:
    return Job(**dict(zip(Job.__struct_fields__, row, strict=True)))


def _text(text: str) -> str:
    # PostgreSQL keeps every character but this one.
    return text.replace("\0", "")[-RESULT_CHARS_MAX:]


def _unknown(job_id: int) -> Refusal:
    return Refusal(WireCode.UNKNOWN_JOB, f"No job {job_id}.")
