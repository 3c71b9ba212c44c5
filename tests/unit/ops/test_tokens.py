"""ops.tokens: what a token says, that the public key alone verifies it, and what is refused."""

import stat
from pathlib import Path

import jwt
import pytest

from ops.datadir import open_data_dir
from ops.errors import UsageError
from ops.tokens import ALGORITHM, ensure_keys, parse_lifetime, public_key_file, sign_token


def test_the_public_key_verifies_the_claims(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    token = sign_token(data_dir, user="u-1", role="operator", lifetime_s=60)
    public_pem = Path(public_key_file(data_dir)).read_bytes()
    claims = jwt.decode(token, public_pem, algorithms=[ALGORITHM])
    assert (claims["sub"], claims["role"]) == ("u-1", "operator")
    assert claims["exp"] - claims["iat"] == 60


def test_keys_are_made_once_and_the_private_one_is_private(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    ensure_keys(data_dir)
    before = (data_dir.keys / "token.pem").read_bytes()
    ensure_keys(data_dir)
    assert (data_dir.keys / "token.pem").read_bytes() == before
    assert stat.S_IMODE((data_dir.keys / "token.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("user", "role", "lifetime_s"), [("u", "king", 60), ("", "user", 60), ("u", "user", 0)]
)
def test_what_no_service_would_accept_is_not_signed(
    tmp_path: Path, user: str, role: str, lifetime_s: int
) -> None:
    with pytest.raises(UsageError):
        sign_token(open_data_dir(tmp_path), user=user, role=role, lifetime_s=lifetime_s)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800)]
)
def test_lifetimes_carry_their_unit(text: str, seconds: int) -> None:
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize("text", ["12", "h", "1.5h", "-1h", "1w"])
def test_lifetimes_without_a_known_unit_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_lifetime(text)
