"""Any file of grants: a report for each line, and the same grants however the file is written."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contributions_import import COLUMNS, Fault, import_key, read_grants
from gateway.errors import Refusal
from schemas.commands import GrantContribution

HEADER = ",".join(COLUMNS)
ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
grants = st.builds(
    GrantContribution,
    user_id=ids,
    grant_id=ids,
    source=ids,
    weight=st.integers(1, 1 << 63),
    expires_second=st.none() | st.integers(0, 1 << 40),
)
sheets = st.lists(grants, max_size=20, unique_by=lambda grant: (grant.user_id, grant.grant_id))


def written(rows: list[GrantContribution], *, order: list[str], quoting: int, ends: str) -> bytes:
    sheet = io.StringIO()
    writer = csv.writer(sheet, quoting=quoting, lineterminator=ends)  # type: ignore[arg-type]
    writer.writerow(order)
    for grant in rows:
        row = {
            "user_id": grant.user_id,
            "grant_id": grant.grant_id,
            "source": grant.source,
            "weight": str(grant.weight),
            "expires": "" if grant.expires_second is None else str(grant.expires_second),
        }
        writer.writerow([row[name] for name in order])
    return sheet.getvalue().encode()


@given(
    rows=sheets,
    order=st.permutations(COLUMNS),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    ends=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_a_file_is_read_as_it_was_written(
    rows: list[GrantContribution], order: list[str], quoting: int, ends: str, mark: bytes
) -> None:
    found = read_grants(mark + written(rows, order=order, quoting=quoting, ends=ends))
    assert [line.found for line in found] == rows
    assert not any(line.same_as for line in found)
    assert len({import_key(grant) for grant in rows}) == len(rows)


@given(rows=sheets.filter(bool))
def test_a_file_that_repeats_itself_says_so(rows: list[GrantContribution]) -> None:
    content = written(rows, order=list(COLUMNS), quoting=csv.QUOTE_ALL, ends="\n")
    body = content.split(b"\n", 1)[1]
    found = read_grants(content + body)
    assert [line.found for line in found] == [*rows, *rows]
    again = found[len(rows) :]
    assert [line.same_as for line in again] == [line.number for line in found[: len(rows)]]


@given(lines=st.lists(st.text(max_size=80), max_size=12), content=st.binary(max_size=200))
def test_any_file_has_a_report_for_each_line_that_is_not_blank(
    lines: list[str], content: bytes
) -> None:
    for text in (HEADER + "\n" + "\n".join(lines), HEADER + "\n" + content.decode("latin-1")):
        try:
            found = read_grants(text.encode("utf-8", "surrogatepass"))
        except Refusal as exc:
            assert exc.code == "invalid_request"  # a lone surrogate is no UTF-8
            continue
        rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[1:]
        numbers = [number for number, row in enumerate(rows, 2) if row.strip(" \t")]
        assert [line.number for line in found] == numbers
    try:
        read_grants(content)
    except Refusal as exc:
        assert exc.code == "invalid_request"


@given(rows=sheets.filter(bool), at=st.integers(0, 19), broken=st.text("a\"',\t bé", max_size=30))
def test_a_broken_line_spoils_no_other(rows: list[GrantContribution], at: int, broken: str) -> None:
    # Without a digit there is no weight, so no grant.
    lines = written(rows, order=list(COLUMNS), quoting=csv.QUOTE_MINIMAL, ends="\n").split(b"\n")
    at = 1 + at % len(rows)
    lines.insert(at, b"x," + broken.encode())
    found = read_grants(b"\n".join(lines))
    (spoilt,) = [line for line in found if line.number == at + 1]
    assert isinstance(spoilt.found, Fault)
    assert [line.found for line in found if line is not spoilt] == rows


@pytest.mark.parametrize("number", [0, -1])
def test_keys_tell_terms_apart(number: int) -> None:
    grant = GrantContribution(user_id="u", grant_id="g", source="s", weight=1)
    changed = GrantContribution(
        user_id="u", grant_id="g", source="s", weight=1, expires_second=10 + number
    )
    assert import_key(grant) != import_key(changed)
