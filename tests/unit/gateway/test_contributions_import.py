"""What a line or a header of a CSV file may say, and what is said of one that may not."""

import pytest

from gateway.contributions_import import LINES_MAX, read_grants
from gateway.errors import Refusal
from schemas.commands import GrantContribution

HEADER = "user_id,grant_id,source,weight,expires"


def only(line: str) -> GrantContribution | tuple[str, str]:
    """The grant of a file with one line; or the code and what is allowed."""
    (found,) = read_grants(f"{HEADER}\n{line}\n".encode())
    if isinstance(found.found, GrantContribution):
        return found.found
    return found.found.code, found.found.allowed


@pytest.mark.parametrize(
    ("expires", "second"),
    [
        ("", None),
        ("1800000000", 1_800_000_000),
        ("2027-01-15T08:00:00Z", 1_800_000_000),
        ("2027-01-15t08:00:00z", 1_800_000_000),
        ("2027-01-15 16:00:00+08:00", 1_800_000_000),
        ("2027-01-15T08:00:00.000Z", 1_800_000_000),
    ],
)
def test_expiry_is_a_second_or_a_time(expires: str, second: int | None) -> None:
    assert only(f"u1,g1,device,5,{expires}") == GrantContribution(
        user_id="u1", grant_id="g1", source="device", weight=5, expires_second=second
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (",g1,device,5,", "invalid_id"),
        ("u1,g 1,device,5,", "invalid_id"),
        ("u1,g1,设备,5,", "invalid_id"),
        (f"u1,{'g' * 65},device,5,", "invalid_id"),
        ("u1,g1,device,0,", "invalid_weight"),
        ("u1,g1,device,-5,", "invalid_weight"),
        ("u1,g1,device,5.0,", "invalid_weight"),
        ("u1,g1,device,\u0665,", "invalid_weight"),
        (f"u1,g1,device,{(1 << 63) + 1},", "invalid_weight"),
        ("u1,g1,device,5,tomorrow", "invalid_expiry"),
        ("u1,g1,device,5,2027-01-15T08:00:00", "invalid_expiry"),
        ("u1,g1,device,5,2027-02-30T08:00:00Z", "invalid_expiry"),
        ("u1,g1,device,5,2027-01-15T08:00:00.5Z", "invalid_expiry"),
        (f"u1,g1,device,5,{(1 << 40) + 1}", "invalid_expiry"),
        ("u1,g1,device,5,1960-01-01T00:00:00Z", "invalid_expiry"),
        ("u1,g1,device,5", "invalid_request"),
        ("u1,g1,device,5,,", "invalid_request"),
        ('u1,g1,"device,5,', "invalid_request"),
        ('u1,g1,"dev"ice,5,', "invalid_request"),
        (f"u1,g1,device,5,{' ' * 1_000}", "invalid_request"),
    ],
)
def test_what_a_line_may_not_say(line: str, code: str) -> None:
    found = only(line)
    assert isinstance(found, tuple)
    assert found[0] == code
    assert found[1]


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"\xff\xfe", "UTF-8"),
        (b"user_id;grant_id;source;weight;expires\n", "unknown column"),
        (b"user_id,grant_id,source,weight,weight\n", "twice"),
        (b"user_id,grant_id,source,expires\n", "column weight"),
        (b'user_id,"grant_id,source,weight\n', "header cannot be read"),
        (HEADER.encode() + b"\nx" * (LINES_MAX + 1), "at most"),
        (HEADER.encode() + b"\n" * (2 * LINES_MAX + 3), "at most"),
    ],
)
def test_files_that_cannot_be_read_by_line(content: bytes, detail: str) -> None:
    with pytest.raises(Refusal, match=detail) as caught:
        read_grants(content)
    assert caught.value.code == "invalid_request"


def test_the_expiry_column_may_be_missing_and_names_may_be_spelled_large() -> None:
    (line,) = read_grants(b"Weight, Source ,GRANT_ID,user_id\r\n5,device,g1,u1\r\n")
    assert line.found == GrantContribution(user_id="u1", grant_id="g1", source="device", weight=5)
    assert (line.number, line.user_id, line.grant_id) == (2, "u1", "g1")


def test_the_same_grant_on_other_terms_is_refused_with_the_line_it_differs_from() -> None:
    lines = f"{HEADER}\nu1,g1,device,5,\nu2,g1,device,5,\nu1,g1,device,6,\n"
    first, second, third = read_grants(lines.encode())
    assert (first.fault, second.fault) == (None, None)
    assert third.fault is not None
    assert (third.fault.code, third.fault.detail) == (
        "duplicate_grant",
        "Line 2 has the same grant on other terms.",
    )
