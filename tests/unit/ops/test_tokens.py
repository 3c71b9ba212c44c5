"""ops.tokens: what a token says, that the key set verifies it, rotation, and what is refused."""

import stat
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.auth import TokenVerifier
from gateway.errors import Refusal
from gateway.keys import KeyFile
from ops.datadir import DataDir, open_data_dir
from ops.errors import UsageError
from ops.gateway_resources import now_second
from ops.tokens import (
    ALGORITHM,
    ensure_keys,
    has_keys,
    list_keys,
    parse_lifetime,
    public_key_file,
    retire_key,
    rotate_keys,
    sign_token,
)


def verifier(data_dir: DataDir) -> TokenVerifier:
    return TokenVerifier.from_file(Path(public_key_file(data_dir)), now_second)


def test_the_key_set_verifies_the_claims(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    token = sign_token(data_dir, user="u-1", role="operator", lifetime_s=60)
    key = KeyFile(Path(public_key_file(data_dir))).find(list_keys(data_dir)[0].kid)
    assert key is not None
    claims = jwt.decode(token, key, algorithms=[ALGORITHM], issuer="durian")
    assert (claims["sub"], claims["role"]) == ("u-1", "operator")
    assert claims["exp"] - claims["iat"] == 60
    assert verifier(data_dir).verify(token).user_id == "u-1"


def test_keys_are_made_once_and_what_is_private_is_private(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    assert not has_keys(data_dir)
    ensure_keys(data_dir)
    assert has_keys(data_dir)
    before = {file.name: file.read_bytes() for file in data_dir.keys.iterdir()}
    ensure_keys(data_dir)
    assert {file.name: file.read_bytes() for file in data_dir.keys.iterdir()} == before
    public = {"jwks.json"}
    for file in data_dir.keys.iterdir():
        assert file.name in public or stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_rotation_signs_nobody_out_and_a_retirement_does(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    old = sign_token(data_dir, user="u", role="user", lifetime_s=60)
    running = verifier(data_dir)
    assert running.verify(old).user_id == "u"
    first = list_keys(data_dir)[0].kid
    made = rotate_keys(data_dir)
    assert [(one.kid, one.signs) for one in list_keys(data_dir)] == [
        (first, False),
        (made.kid, True),
    ]
    new = sign_token(data_dir, user="v", role="user", lifetime_s=60)
    # The verifier of before meets a key that it does not know, and looks.
    assert running.verify(new).user_id == "v"
    assert running.verify(old).user_id == "u"
    assert not (data_dir.keys / f"token-{first}.pem").exists()
    retire_key(data_dir, first)
    with pytest.raises(Refusal, match="not in use"):
        verifier(data_dir).verify(old)
    assert verifier(data_dir).verify(new).user_id == "v"


def test_the_key_that_signs_is_not_retired(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    ensure_keys(data_dir)
    for kid in (list_keys(data_dir)[0].kid, "no-such-key"):
        with pytest.raises(UsageError):
            retire_key(data_dir, kid)


def test_tokens_of_a_data_directory_of_before_go_on(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (data_dir.keys / "token.pem").write_bytes(pem)
    (data_dir.keys / "token.pub.pem").write_bytes(b"its public half")
    old = jwt.encode(
        {"sub": "alice", "role": "user", "iat": 1, "exp": now_second() + 60},
        key,
        algorithm=ALGORITHM,
    )
    assert has_keys(data_dir)
    ensure_keys(data_dir)
    assert verifier(data_dir).verify(old).user_id == "alice"
    assert not (data_dir.keys / "token.pem").exists()
    retire_key(data_dir, "legacy")
    with pytest.raises(Refusal):
        verifier(data_dir).verify(old)


@pytest.mark.parametrize(
    ("user", "role", "lifetime_s"),
    [("u", "king", 60), ("", "user", 60), ("u" * 129, "user", 60), ("u", "user", 0)],
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
