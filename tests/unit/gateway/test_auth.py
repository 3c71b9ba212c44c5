"""gateway.auth: only an EdDSA token of our key, complete and unexpired, is somebody."""

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth import (
    ACTS_FOR_OTHERS,
    READS_OTHERS,
    ROLES,
    TRADES,
    Principal,
    TokenVerifier,
    require_role,
    subject,
)
from gateway.errors import Refusal

FAR = 4_102_444_800  # the year 2100
CLAIMS = {"sub": "u1", "role": "user", "exp": FAR}


@pytest.fixture(name="key")
def fixture_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def verifier(key: Ed25519PrivateKey) -> TokenVerifier:
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return TokenVerifier(pem)


def unsigned(claims: dict[str, object]) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join([*encoded, b""]).decode()


def test_a_good_token_names_its_principal(key: Ed25519PrivateKey) -> None:
    token = jwt.encode(CLAIMS, key, algorithm="EdDSA")
    expected = Principal(user_id="u1", role="user", expires_second=FAR)
    assert verifier(key).verify(token) == expected
    assert verifier(key).verify_header(f"bearer {token}") == expected


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"role": None},
        {"role": "king"},
        {"sub": 7},
        {"exp": "soon"},
    ],
)
def test_claims_must_be_whole(key: Ed25519PrivateKey, changed: dict[str, object]) -> None:
    claims = {name: claim for name, claim in (CLAIMS | changed).items() if claim is not None}
    # PyJWT refuses to encode a number as sub, so such a token is made by its own parts.
    token = jwt.api_jws.encode(json.dumps(claims).encode(), key, algorithm="EdDSA")
    with pytest.raises(Refusal) as refused:
        verifier(key).verify(token)
    assert refused.value.code == "unauthorized"


def test_other_keys_and_algorithms_are_refused(key: Ed25519PrivateKey) -> None:
    other = Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    elliptic = generate_private_key(SECP256R1())
    good = jwt.encode(CLAIMS, key, algorithm="EdDSA")
    for token in (
        jwt.encode(CLAIMS, other, algorithm="EdDSA"),
        jwt.encode(CLAIMS, elliptic, algorithm="ES256"),
        # The public key as an HMAC secret: the classic confusion of algorithms.
        jwt.api_jws.encode(json.dumps(CLAIMS).encode(), b"x" * len(pem), algorithm="HS256"),
        unsigned(CLAIMS),
        good[:-4] + "AAAA",
        good + "x" * 5_000,
        "",
        "a.b.c",
        "ünïcode",
    ):
        with pytest.raises(Refusal):
            verifier(key).verify(token)


@pytest.mark.parametrize("header", [None, "", "Basic abc", "Bearer", "Bearer "])
def test_the_header_must_bear_a_token(key: Ed25519PrivateKey, header: str | None) -> None:
    with pytest.raises(Refusal):
        verifier(key).verify_header(header)


def test_only_an_ed25519_public_key_will_do(key: Ed25519PrivateKey) -> None:
    elliptic = generate_private_key(SECP256R1()).public_key()
    for pem in (b"", elliptic.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)):
        with pytest.raises(ValueError):
            TokenVerifier(pem)


@pytest.mark.parametrize("role", sorted(ROLES))
def test_roles(role: str) -> None:
    who = Principal(user_id="u1", role=role, expires_second=FAR)  # type: ignore[arg-type]
    assert subject(who, None, ACTS_FOR_OTHERS) == "u1"
    assert subject(who, "u1", ACTS_FOR_OTHERS) == "u1"
    for allowed in (TRADES, ACTS_FOR_OTHERS, READS_OTHERS):
        if role in allowed:
            require_role(who, allowed)
            assert subject(who, "u2", allowed) == "u2"
        else:
            with pytest.raises(Refusal) as refused:
                subject(who, "u2", allowed)
            assert refused.value.code == "forbidden"
