"""Reading a CSV file of grants: every line into a grant or into what is wrong with it.

Knows no ledger and no views. A field never holds a line break, so lines are told apart before the
quotes are read: a forgotten quote spoils its own line and no other.
"""

import csv
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from gateway.errors import Refusal
from schemas.commands import GrantContribution
from schemas.rejections import RejectionCode
from schemas.wire import WireCode
from schemas.wire_mining import SECOND_MAX

FILE_BYTES_MAX: Final = 8 << 20
LINES_MAX: Final = 50_000
LINE_CHARS_MAX: Final = 1_000
WEIGHT_MAX: Final = 1 << 63
COLUMNS: Final = ("user_id", "grant_id", "source", "weight", "expires")
OPTIONAL_COLUMNS: Final = ("expires",)
KEY_BYTES: Final = 16

ID_ALLOWED: Final = "1 to 64 visible ASCII characters"
WEIGHT_ALLOWED: Final = f"a whole number from 1 to {WEIGHT_MAX}"
EXPIRES_ALLOWED: Final = (
    "nothing, a Unix second, or a time with its zone such as 2027-01-31T00:00:00Z"
)
FIELDS_ALLOWED: Final = "as many fields as the header has columns, RFC 4180"

_ID = re.compile(r"[!-~]{1,64}")
_DIGITS = re.compile(r"[0-9]{1,19}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.0+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
# Not str.splitlines: that also breaks at characters which are no line breaks in CSV.
_LINE_BREAK = re.compile(r"\r\n|\n|\r")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a line cannot become a grant. allowed: what may stand there, "" if that says nothing."""

    code: str
    detail: str
    allowed: str = ""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line that is not blank. number: in the file, from 1. same_as: the number of an earlier
    line with the same grant on the same terms.

    found: the grant, or what is wrong. user_id, grant_id: as far as they could be read.
    """

    number: int
    found: GrantContribution | Fault
    user_id: str | None = None
    grant_id: str | None = None
    same_as: int | None = None

    @property
    def fault(self) -> Fault | None:
        return self.found if isinstance(self.found, Fault) else None


class _Unreadable(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


def read_grants(content: bytes, *, lines_max: int = LINES_MAX) -> list[Line]:
    """Every line below the header that is not blank, in the file's order.

    Raises Refusal(invalid_request) if the file has no header to read it by, is not UTF-8, or has
    more lines than lines_max.
    """
    # Counted first, blank lines too: splitting megabytes of them would take seconds.
    if content.count(b"\n") + content.count(b"\r") > 2 * (lines_max + 1):
        raise _unusable(f"A file has at most {lines_max} lines; split it.")
    lines = _LINE_BREAK.split(_text(content))
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip(" \t")]
    if not numbered:
        raise _unusable("The file is empty; its first line names the columns.")
    if len(numbered) - 1 > lines_max:
        raise _unusable(f"A file has at most {lines_max} lines; split it.")
    (_, header), *rows = numbered
    columns = _columns(header)
    found: list[Line] = []
    first_of: dict[tuple[str, str], tuple[int, GrantContribution]] = {}
    for number, text in rows:
        found.append(_line(number, text, columns, first_of))
    return found


def import_key(grant: GrantContribution) -> str:
    """The idempotency key of a line: the same wherever and whenever the line is imported."""
    terms = (grant.user_id, grant.grant_id, grant.source, grant.weight, grant.expires_second)
    digest = hashlib.blake2b(repr(terms).encode(), digest_size=KEY_BYTES)
    return f"import:{digest.hexdigest()}"


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise _unusable(f"The file is not UTF-8: {exc.reason} at byte {exc.start}.") from exc


def _unusable(detail: str) -> Refusal:
    allowed = ",".join(COLUMNS)
    return Refusal(WireCode.INVALID_REQUEST, detail, {"field": "body", "columns": allowed})


def _columns(header: str) -> Sequence[str]:
    try:
        columns = [name.strip().lower() for name in _fields(header)]
    except _Unreadable as exc:
        raise _unusable(f"The header cannot be read: {exc.fault.detail}") from exc
    for name in columns:
        if name not in COLUMNS:
            raise _unusable(f"The header names an unknown column {name[:40]!r}.")
        if columns.count(name) > 1:
            raise _unusable(f"The header names column {name} twice.")
    for name in COLUMNS:
        if name not in columns and name not in OPTIONAL_COLUMNS:
            raise _unusable(f"The header does not name column {name}.")
    return columns


def _fields(text: str) -> list[str]:
    if len(text) > LINE_CHARS_MAX:
        raise _Unreadable(
            Fault(
                code=WireCode.INVALID_REQUEST,
                detail="The line is too long.",
                allowed=f"{LINE_CHARS_MAX} characters",
            )
        )
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as exc:
        raise _Unreadable(
            Fault(
                code=WireCode.INVALID_REQUEST,
                detail=f"The line is not CSV: {exc}.",
                allowed=FIELDS_ALLOWED,
            )
        ) from exc
    return fields


def _line(
    number: int,
    text: str,
    columns: Sequence[str],
    first_of: dict[tuple[str, str], tuple[int, GrantContribution]],
) -> Line:
    row: dict[str, str] = {}
    try:
        fields = _fields(text)
        if len(fields) != len(columns):
            raise _Unreadable(
                Fault(
                    code=WireCode.INVALID_REQUEST,
                    detail=f"{len(fields)} fields, {len(columns)} columns.",
                    allowed=FIELDS_ALLOWED,
                )
            )
        row = dict(zip(columns, (field.strip(" \t") for field in fields), strict=True))
        grant = _grant(row)
    except _Unreadable as exc:
        return Line(
            number=number,
            found=exc.fault,
            user_id=_shown(row, "user_id"),
            grant_id=_shown(row, "grant_id"),
        )
    before, first = first_of.setdefault((grant.user_id, grant.grant_id), (number, grant))
    found: GrantContribution | Fault = grant
    if first != grant:
        found = Fault(
            code=RejectionCode.DUPLICATE_GRANT,
            detail=f"Line {before} has the same grant on other terms.",
        )
    return Line(
        number=number,
        found=found,
        user_id=grant.user_id,
        grant_id=grant.grant_id,
        same_as=before if before != number and first == grant else None,
    )


def _shown(row: dict[str, str], name: str) -> str | None:
    text = row.get(name, "")
    return text if _ID.fullmatch(text) else None


def _grant(row: dict[str, str]) -> GrantContribution:
    for name in ("user_id", "grant_id", "source"):
        if not _ID.fullmatch(row[name]):
            raise _Unreadable(
                Fault(
                    code=RejectionCode.INVALID_ID,
                    detail=f"{name} cannot be used.",
                    allowed=ID_ALLOWED,
                )
            )
    return GrantContribution(
        user_id=row["user_id"],
        grant_id=row["grant_id"],
        source=row["source"],
        weight=_weight(row["weight"]),
        expires_second=_expires_second(row.get("expires", "")),
    )


def _weight(text: str) -> int:
    weight = int(text) if _DIGITS.fullmatch(text) else 0
    if not 1 <= weight <= WEIGHT_MAX:
        raise _Unreadable(
            Fault(
                code=RejectionCode.INVALID_WEIGHT,
                detail="weight cannot be used.",
                allowed=WEIGHT_ALLOWED,
            )
        )
    return weight


def _expires_second(text: str) -> int | None:
    if not text:
        return None
    second = -1
    if _DIGITS.fullmatch(text):
        second = int(text)
    elif _TIME.fullmatch(text):
        second = _second_of(text)
    if not 0 <= second <= SECOND_MAX:
        raise _Unreadable(
            Fault(
                code=RejectionCode.INVALID_EXPIRY,
                detail="expires cannot be used.",
                allowed=EXPIRES_ALLOWED,
            )
        )
    return second


def _second_of(text: str) -> int:
    # -1 for what has the form of a time but is none, such as February 30.
    try:
        at = datetime.fromisoformat(text.upper())
        # Not timestamp(): that is a float.
        since = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return -1
    return since.days * 86_400 + since.seconds
