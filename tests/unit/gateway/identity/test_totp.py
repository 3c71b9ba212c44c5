"""gateway.identity.totp: the RFC's own codes, one use each, and codes for a lost device."""

import base64

import pytest

from gateway.identity import totp

# RFC 6238 appendix B, SHA-1: eight digits there, of which ours are the last six.
RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
RFC_CODES = [
    (59, "287082"),
    (1_111_111_109, "081804"),
    (1_111_111_111, "050471"),
    (1_234_567_890, "005924"),
    (2_000_000_000, "279037"),
    (20_000_000_000, "353130"),
]


@pytest.mark.parametrize(("second", "code"), RFC_CODES)
def test_codes_are_the_rfcs(second: int, code: str) -> None:
    step = second // totp.STEP_SECONDS
    assert totp.code_at(RFC_SECRET, step) == code
    assert totp.matching_step(RFC_SECRET, code, now_second=second, after_step=0) == step


def test_a_code_is_right_for_its_step_and_those_beside_it_once() -> None:
    now = 1_800_000_000
    step = now // totp.STEP_SECONDS
    for around in (-1, 0, 1):
        code = totp.code_at(RFC_SECRET, step + around)
        found = totp.matching_step(RFC_SECRET, code, now_second=now, after_step=0)
        assert found == step + around
        again = totp.matching_step(RFC_SECRET, code, now_second=now, after_step=step + around)
        assert again is None
    for around in (-2, 2):
        code = totp.code_at(RFC_SECRET, step + around)
        assert totp.matching_step(RFC_SECRET, code, now_second=now, after_step=0) is None


def test_recovery_codes_follow_from_the_key_and_are_forgiving_to_type() -> None:
    codes = totp.recovery_codes(b"s", "u_1", b"k")
    assert codes == totp.recovery_codes(b"s", "u_1", b"k")
    assert len(set(codes)) == totp.RECOVERY_CODES
    assert not set(codes) & set(totp.recovery_codes(b"s", "u_1", b"l"))
    typed = codes[0].upper().replace("-", " ")
    assert totp.recovery_digest("u_1", typed) == totp.recovery_digest("u_1", codes[0])
    assert totp.recovery_digest("u_2", codes[0]) != totp.recovery_digest("u_1", codes[0])


def test_authenticators_are_told_by_uri_and_picture() -> None:
    uri = totp.otpauth_uri(RFC_SECRET, "alice@example.org")
    assert uri.startswith("otpauth://totp/Durian:alice%40example.org?")
    assert f"secret={RFC_SECRET}" in uri
    picture = base64.b64decode(totp.qr_svg(uri).partition(",")[2])
    assert picture.startswith(b"<svg")
