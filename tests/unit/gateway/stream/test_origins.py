"""gateway.stream.origins: apps and pages of the same host may, others must be listed."""

import pytest

from gateway.stream.origins import is_allowed

HOST = "stream.example:3025"


@pytest.mark.parametrize(
    ("origin", "allowed", "expected"),
    [
        (None, (), True),
        ("https://stream.example", (), True),
        ("http://stream.example:3100", (), True),
        ("https://STREAM.example", (), True),
        ("https://evil.example", (), False),
        ("https://stream.example.evil.example", (), False),
        ("https://evil.example", ("https://evil.example",), True),
        ("https://evil.example:444", ("https://evil.example",), False),
        ("https://evil.example", ("*",), True),
        ("null", (), False),
        ("null", ("null",), True),
        ("", (), False),
        ("http://[", (), False),
        ("http://user@stream.example", (), True),
    ],
)
def test_origins(origin: str | None, allowed: tuple[str, ...], expected: bool) -> None:
    assert is_allowed(origin, host=HOST, allowed=allowed) is expected


def test_a_request_without_host_is_no_match() -> None:
    assert not is_allowed("https://stream.example", host="", allowed=())
    assert is_allowed("http://[::1]:3100", host="[::1]:3025", allowed=())
