"""The contribution service as an operator calls it from a command line, and the import of files of
any length in parts that the service takes.
"""

import csv
import io
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from gateway.contributions_import import COLUMNS, Line
from ops.errors import OpsError, ServerUnavailable, UsageError
from schemas.commands import GrantContribution
from schemas.wire import GrantResult, Problem
from schemas.wire_mining import (
    ContributionShown,
    GrantBody,
    GrantChanged,
    GrantTermsBody,
    ImportLine,
    ImportReport,
)

PATH: Final = "/v1/contributions"
LINES_AT_ONCE: Final = 1_000
ANSWER_SECONDS_MAX: Final = 60.0
# Away for a moment, such as a leader that is being replaced.
TRIES_MAX: Final = 10
PAUSE_SECONDS_MAX: Final = 5
_WAITED_FOR = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)

T = TypeVar("T")


class Refused(OpsError):
    """The service's answer was a problem."""

    def __init__(self, problem: Problem) -> None:
        told = ", ".join(f"{name} {value}" for name, value in problem.details.items())
        super().__init__(f"{problem.code}: {problem.detail}" + (f" ({told})" if told else ""))
        self.exit_code = UsageError.exit_code


class ContributionApi:
    """A context manager around one connection. token: of an operator; called for each request."""

    def __init__(
        self, url: str, token: Callable[[], str], transport: httpx.BaseTransport | None = None
    ) -> None:
        self._token = token
        self._client = httpx.Client(
            base_url=url,
            timeout=ANSWER_SECONDS_MAX,
            transport=transport,
            trust_env=False,  # a proxy for the outside world does not know our loopback
        )

    def __enter__(self) -> "ContributionApi":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def grant(self, body: GrantBody) -> GrantResult:
        return self._ask(GrantResult, "POST", PATH, json=body)

    def adjust(self, user_id: str, grant_id: str, body: GrantTermsBody) -> GrantChanged:
        return self._ask(GrantChanged, "PATCH", _path(user_id, "grants", grant_id), json=body)

    def revoke(self, user_id: str, grant_id: str) -> GrantChanged:
        return self._ask(GrantChanged, "DELETE", _path(user_id, "grants", grant_id))

    def show(self, user_id: str) -> ContributionShown:
        return self._ask(ContributionShown, "GET", _path(user_id))

    def import_lines(self, lines: Sequence[Line], *, dry_run: bool) -> list[ImportLine]:
        """What became of lines without a fault, LINES_AT_ONCE at most."""
        report = self._ask(
            ImportReport,
            "POST",
            f"{PATH}/import?dry_run={'true' if dry_run else 'false'}",
            content=_sheet(lines),
            media_type="text/csv",
        )
        return [
            msgspec.structs.replace(found, line=line.number)
            for line, found in zip(lines, report.lines, strict=True)
        ]

    def _ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        json: msgspec.Struct | None = None,
        content: bytes = b"",
        media_type: str = "application/json",
    ) -> T:
        body = msgspec.json.encode(json) if json is not None else content
        for tries_left in reversed(range(TRIES_MAX)):
            headers = {"authorization": f"Bearer {self._token()}"}
            if body:
                headers["content-type"] = media_type
            try:
                answer = self._client.request(method, path, content=body, headers=headers)
            except httpx.HTTPError as exc:
                raise ServerUnavailable(f"the contribution service does not answer: {exc}") from exc
            if answer.status_code not in _WAITED_FOR or not tries_left:
                break
            wanted = answer.headers.get("retry-after", "1")
            time.sleep(min(int(wanted) if wanted.isdecimal() else 1, PAUSE_SECONDS_MAX))
        return _read(answer, kind)


def import_file(
    api: ContributionApi,
    lines: Sequence[Line],
    *,
    dry_run: bool,
    told: Callable[[int], None] = lambda done: None,
) -> Iterator[ImportLine]:
    """What became of each line, in order; those with a fault are not sent. told: how many are done.

    Ended in the middle, it goes on when the file is imported again.
    """
    for first in range(0, len(lines), LINES_AT_ONCE):
        part = lines[first : first + LINES_AT_ONCE]
        good = [line for line in part if line.fault is None]
        found = {}
        if good:
            found = {one.line: one for one in api.import_lines(good, dry_run=dry_run)}
        for line in part:
            yield found.get(line.number) or refused_line(line)
        told(first + len(part))


def refused_line(line: Line) -> ImportLine:
    """The report of a line with a fault."""
    fault = line.fault
    assert fault is not None, line
    return ImportLine(
        line=line.number,
        outcome="refused",
        user_id=line.user_id,
        grant_id=line.grant_id,
        code=fault.code,
        detail=fault.detail,
        allowed=fault.allowed or None,
    )


def _sheet(lines: Sequence[Line]) -> bytes:
    sheet = io.StringIO()
    writer = csv.writer(sheet)
    writer.writerow(COLUMNS)
    for line in lines:
        grant = line.found
        assert isinstance(grant, GrantContribution), line
        expires = "" if grant.expires_second is None else grant.expires_second
        writer.writerow([grant.user_id, grant.grant_id, grant.source, grant.weight, expires])
    return sheet.getvalue().encode()


def _path(*parts: str) -> str:
    return "/".join((PATH, *(quote(part, safe="") for part in parts)))


def _read(answer: httpx.Response, kind: type[T]) -> T:
    try:
        if answer.is_success:
            return msgspec.json.decode(answer.content, type=kind)
        problem = msgspec.json.decode(answer.content, type=Problem)
    except msgspec.DecodeError as exc:
        raise ServerUnavailable(
            f"{answer.request.url} is no contribution service: {answer.status_code}"
        ) from exc
    if answer.status_code in _WAITED_FOR:
        raise ServerUnavailable(f"{problem.code}: {problem.detail}")
    raise Refused(problem)
