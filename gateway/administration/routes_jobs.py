"""Jobs: asked for, looked at, cancelled. `durian jobs` does them."""

from typing import Annotated, Final

import msgspec

from gateway.administration.acting import LOOKS, OPERATES, acting, desk_of
from gateway.database import Connection
from gateway.desk import jobs
from gateway.endpoint import ITEMS_DEFAULT, Call, Endpoint, Limit, NoBody, Parameters
from gateway.first_answers import answer_once
from gateway.requests import invalid
from schemas.wire import Page, WireCode
from schemas.wire_administration import Job, JobBody, JobDetail, JobKind, JobState

Number = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]
ACCEPTED: Final = 202
_OF_VIEWS: Final[frozenset[JobKind]] = frozenset({"rebuild", "compare_views"})


class JobParameters(Parameters, frozen=True, kw_only=True):
    job_id: Number


class JobListParameters(Parameters, frozen=True, kw_only=True):
    """state: of those only. cursor: the newest come first; those before this one."""

    state: JobState | None = None
    limit: Limit = ITEMS_DEFAULT
    cursor: Number | None = None


async def list_jobs(call: Call[JobListParameters, NoBody]) -> Page[Job]:
    """Jobs, the newest first."""
    asked = call.parameters
    return await desk_of(call.resources).jobs.page(
        state=asked.state, before=asked.cursor, limit=asked.limit
    )


async def get_job(call: Call[JobParameters, NoBody]) -> JobDetail:
    """One job with what it said so far."""
    return await desk_of(call.resources).jobs.get(call.parameters.job_id)


async def start_job(call: Call[Parameters, JobBody]) -> Job:
    """Ask for a job. One of a kind and name waits or runs at a time."""
    body, actor = call.body, await acting(call)
    if body.kind not in _OF_VIEWS and body.name != "all":
        raise invalid(f"{body.kind} is of everything: its name is all.", "name")

    async def work(connection: Connection) -> Job:
        return await jobs.queue(connection, actor, body.kind, body.name)

    return await answer_once(call, desk_of(call.resources).database, work=work, kind=Job)


async def cancel_job(call: Call[JobParameters, NoBody]) -> Job:
    """End a job: at once if it waits, within seconds if it runs. A rebuild that was cancelled goes
    on where it was when it is asked for again.
    """
    actor = await acting(call)

    async def work(connection: Connection) -> Job:
        return await jobs.cancel(connection, actor, call.parameters.job_id)

    return await answer_once(call, desk_of(call.resources).database, work=work, kind=Job)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/admin/jobs",
        handle=list_jobs,
        summary="Jobs",
        access=LOOKS,
        parameters=JobListParameters,
        answer=Page[Job],
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/jobs",
        handle=start_job,
        summary="Ask for a rebuild or an audit",
        access=OPERATES,
        body=JobBody,
        answer=Job,
        status=ACCEPTED,
        is_command=True,
        refuses=(WireCode.JOB_RUNNING,),
    ),
    Endpoint(
        method="GET",
        path="/v1/admin/jobs/{job_id}",
        handle=get_job,
        summary="One job with its progress and log",
        access=LOOKS,
        parameters=JobParameters,
        answer=JobDetail,
        refuses=(WireCode.UNKNOWN_JOB,),
    ),
    Endpoint(
        method="POST",
        path="/v1/admin/jobs/{job_id}/cancel",
        handle=cancel_job,
        summary="End a job",
        access=OPERATES,
        parameters=JobParameters,
        answer=Job,
        is_command=True,
        refuses=(WireCode.UNKNOWN_JOB,),
    ),
)
