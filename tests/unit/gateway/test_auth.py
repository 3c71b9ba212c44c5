"""gateway.auth: only an EdDSA token of a key of ours, in its one spelling and in time, is somebody.

The table of negatives follows the groups of Wycheproof's JSON Web Signature and Token vectors.
"""

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway import keys
from gateway.access import GRANTS, Scope
from gateway.auth import REMEMBERED_MAX, TOKEN_CHARS_MAX, TokenVerifier, scope_claim
from gateway.errors import Refusal
from gateway.keys import LEGACY_KID, KeyFile, jwk, thumbprint
from schemas.wire_identity import Jwks

NOW = 1_800_000_000
CLAIMS: dict[str, Any] = {
    "iss": "durian",
    "sub": "u1",
    "role": "user",
    "scope": "account read trade withdraw",
    "jti": "1",
    "iat": NOW,
    "exp": NOW + 600,
}
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KID = thumbprint(KEY.public_key())
HEADER: dict[str, Any] = {"alg": "EdDSA", "kid": KID, "typ": "at+jwt"}


def key_file(directory: Path, *listed: tuple[str, Ed25519PrivateKey]) -> Path:
    path = directory / "jwks.json"
    found = tuple(jwk(key.public_key(), kid) for kid, key in listed)
    path.write_bytes(msgspec.json.encode(Jwks(keys=found)))
    return path


class Now:
    second = NOW

    def __call__(self) -> int:
        return self.second


@pytest.fixture(name="verifier", scope="module")
def fixture_verifier(tmp_path_factory: pytest.TempPathFactory) -> TokenVerifier:
    path = key_file(tmp_path_factory.mktemp("keys"), (KID, KEY))
    return TokenVerifier.from_file(path, Now())


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(
    header: dict[str, Any] | bytes | None = None,
    payload: dict[str, Any] | bytes | None = None,
    key: Ed25519PrivateKey = KEY,
) -> str:
    """A token with a right signature over whatever is given as header and payload."""
    parts = [
        part if isinstance(part, bytes) else json.dumps(part).encode()
        for part in (HEADER if header is None else header, CLAIMS if payload is None else payload)
    ]
    body = ".".join(map(b64, parts))
    return f"{body}.{b64(key.sign(body.encode()))}"


def members(pairs: list[tuple[str, Any]]) -> bytes:
    told = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
    return f"{{{told}}}".encode()


def encoded(part: dict[str, Any]) -> str:
    return b64(json.dumps(part).encode())


def hmac_with_public_key() -> str:
    public = KEY.public_key()
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    body = (
        f"{b64(json.dumps({**HEADER, 'alg': 'HS256'}).encode())}.{b64(json.dumps(CLAIMS).encode())}"
    )
    return f"{body}.{b64(hmac.digest(raw, body.encode(), 'sha256'))}"


def other_primitive(algorithm: str) -> str:
    key: Any = (
        rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
        if algorithm[:2] in ("RS", "PS")
        else generate_private_key(SECP256R1())
    )
    return jwt.encode(CLAIMS, key, algorithm=algorithm, headers={"kid": KID, "typ": "at+jwt"})


GOOD = signed()
HEAD, BODY, SIGNATURE = GOOD.split(".")
RAW = base64.urlsafe_b64decode(SIGNATURE + "==")
OTHERS = signed(payload={**CLAIMS, "jti": "2"}).split(".")[2]


def unpadded_bits(segment: str) -> str:
    """Another spelling of the same bytes: the last character carries bits that no byte needs."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(segment) % 4 in (2, 3)
    return segment[:-1] + alphabet[alphabet.index(segment[-1]) + 1]


NEGATIVES: dict[str, str] = {
    "empty": "",
    "dots only": "..",
    "two parts": f"{HEAD}.{BODY}",
    "four parts": f"{GOOD}.{SIGNATURE}",
    "a JSON serialization": json.dumps({"payload": BODY, "protected": HEAD}),
    "not ASCII": "ünïcode.ünïcode.ünïcode",
    "a lone surrogate": "\ud800.a.b",
    "NUL inside": f"{HEAD}\0.{BODY}.{SIGNATURE}",
    "white space inside": f"{HEAD}.{BODY[:5]} {BODY[5:]}.{SIGNATURE}",
    "a line end after it": f"{GOOD}\n",
    "too long": signed(payload={**CLAIMS, "junk": "x" * TOKEN_CHARS_MAX}),
    # --- signatures
    "no signature": f"{HEAD}.{BODY}.",
    "truncated signature": f"{HEAD}.{BODY}.{SIGNATURE[:-4]}",
    "junk after the signature": f"{GOOD}AAAA",
    "signature of zeros": f"{HEAD}.{BODY}.{b64(bytes(64))}",
    "signature with R and S swapped": f"{HEAD}.{BODY}.{b64(RAW[32:] + RAW[:32])}",
    "another token's signature": f"{HEAD}.{BODY}.{OTHERS}",
    "signed by another key": signed(key=Ed25519PrivateKey.generate()),
    "payload changed": f"{HEAD}.{encoded({**CLAIMS, 'role': 'admin'})}.{SIGNATURE}",
    # --- base64
    "padded header": f"{HEAD}=.{BODY}.{SIGNATURE}",
    "padded signature": f"{GOOD}==",
    "bits that no byte needs": f"{HEAD}.{BODY}.{unpadded_bits(SIGNATURE)}",
    "one character too many": f"{GOOD}A",
    "alphabet of plain base64": f"{HEAD}.{BODY}.{'+/' + SIGNATURE[2:]}",
    # --- algorithms
    "alg none": f"{encoded({**HEADER, 'alg': 'none'})}.{BODY}.",
    "alg None": f"{encoded({**HEADER, 'alg': 'None'})}.{BODY}.",
    "alg none with a signature": signed({**HEADER, "alg": "none"}),
    "alg missing": signed({name: HEADER[name] for name in ("kid", "typ")}),
    "alg in another case": signed({**HEADER, "alg": "eddsa"}),
    "alg of another name": signed({**HEADER, "alg": "Ed25519"}),
    "alg a list": signed({**HEADER, "alg": ["EdDSA"]}),
    "HS256 with the public key": hmac_with_public_key(),
    "RS256": other_primitive("RS256"),
    "PS256": other_primitive("PS256"),
    "ES256": other_primitive("ES256"),
    # --- headers
    "no kid": signed({"alg": "EdDSA", "typ": "at+jwt"}),
    "no kid, as long ago": signed({"alg": "EdDSA", "typ": "JWT"}),
    "unknown kid": signed({**HEADER, "kid": "other"}),
    "kid a path": signed({**HEADER, "kid": "../../dev/null"}),
    "kid a number": signed({**HEADER, "kid": 1}),
    "kid null": signed({**HEADER, "kid": None}),
    "typ missing": signed({"alg": "EdDSA", "kid": KID}),
    "typ of an identity token": signed({**HEADER, "typ": "JWT"}),
    "crit": signed({**HEADER, "crit": ["exp"], "exp": 1}),
    "crit empty": signed({**HEADER, "crit": []}),
    "b64 false": signed({**HEADER, "b64": False, "crit": ["b64"]}),
    "its own key": signed({**HEADER, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AA"}}),
    "a key elsewhere": signed({**HEADER, "jku": "https://example.org/jwks.json"}),
    "compressed": signed({**HEADER, "zip": "DEF"}),
    "alg twice": signed(members([("alg", "none"), *HEADER.items()])),
    "kid twice": signed(members([*HEADER.items(), ("kid", KID)])),
    "header a list": signed(json.dumps([HEADER]).encode()),
    "header not JSON": signed(b"{"),
    "header with a BOM": signed(b"\xef\xbb\xbf" + json.dumps(HEADER).encode()),
    # --- claims
    "payload a string": signed(payload=b'"u1"'),
    "payload a list": signed(payload=json.dumps([CLAIMS]).encode()),
    "payload not JSON": signed(payload=b"sub=u1"),
    "payload not UTF-8": signed(payload=b'{"sub":"\xff"}'),
    "payload deep": signed(payload=b"[" * 1_500 + b"]" * 1_500),
    "payload with junk after it": signed(payload=json.dumps(CLAIMS).encode() + b"{}"),
    "sub twice": signed(payload=members([*CLAIMS.items(), ("sub", "admin")])),
    "exp twice": signed(payload=members([("exp", NOW + 9_999), *CLAIMS.items()])),
    "inner member twice": signed(payload=b'{"a":{"b":1,"b":2},' + json.dumps(CLAIMS).encode()[1:]),
    "expired": signed(payload={**CLAIMS, "exp": NOW}),
    "exp missing": signed(payload={name: CLAIMS[name] for name in CLAIMS if name != "exp"}),
    "exp a string": signed(payload={**CLAIMS, "exp": str(NOW + 600)}),
    "exp a fraction": signed(payload={**CLAIMS, "exp": NOW + 0.5}),
    "exp true": signed(payload={**CLAIMS, "exp": True}),
    "exp infinite": signed(payload=json.dumps({**CLAIMS, "exp": float("inf")}).encode()),
    "exp not a number": signed(payload=json.dumps({**CLAIMS, "exp": float("nan")}).encode()),
    "exp too large": signed(payload={**CLAIMS, "exp": 1 << 70}),
    "exp with a thousand digits": signed(
        payload=json.dumps(CLAIMS).replace(str(NOW + 600), "9" * 1_000).encode()
    ),
    "exp negative": signed(payload={**CLAIMS, "exp": -1}),
    "nbf to come": signed(payload={**CLAIMS, "nbf": NOW + 60}),
    "nbf a string": signed(payload={**CLAIMS, "nbf": "soon"}),
    "iat to come": signed(payload={**CLAIMS, "iat": NOW + 60}),
    "iss of others": signed(payload={**CLAIMS, "iss": "other"}),
    "iss missing": signed(payload={name: CLAIMS[name] for name in CLAIMS if name != "iss"}),
    "iss a list": signed(payload={**CLAIMS, "iss": ["durian"]}),
    "sub missing": signed(payload={name: CLAIMS[name] for name in CLAIMS if name != "sub"}),
    "sub a number": signed(payload={**CLAIMS, "sub": 7}),
    "sub null": signed(payload={**CLAIMS, "sub": None}),
    "sub empty": signed(payload={**CLAIMS, "sub": ""}),
    "sub too long": signed(payload={**CLAIMS, "sub": "u" * 129}),
    "role unknown": signed(payload={**CLAIMS, "role": "king"}),
    "role a list": signed(payload={**CLAIMS, "role": ["user", "admin"]}),
    "role missing": signed(payload={name: CLAIMS[name] for name in CLAIMS if name != "role"}),
    "scope a list": signed(payload={**CLAIMS, "scope": ["read"]}),
    "scope missing": signed(payload={name: CLAIMS[name] for name in CLAIMS if name != "scope"}),
    "sid a number": signed(payload={**CLAIMS, "sid": 5}),
}


@pytest.mark.parametrize("name", NEGATIVES)
def test_it_is_refused(verifier: TokenVerifier, name: str) -> None:
    with pytest.raises(Refusal) as refused:
        verifier.verify(NEGATIVES[name])
    assert refused.value.code == "unauthorized"


def test_a_good_token_names_its_principal(verifier: TokenVerifier) -> None:
    for found in (verifier.verify(GOOD), verifier.verify_header(f"bearer {GOOD}")):
        assert (found.user_id, found.role, found.expires_second) == ("u1", "user", NOW + 600)
        assert found.scopes == GRANTS["user"]
        assert found.session_id == ""
    assert verifier.verify(signed(payload={**CLAIMS, "sid": "s_1"})).session_id == "s_1"


@given(bit=st.integers(0, len(GOOD) * 8 - 1))
def test_a_flipped_bit_is_refused(verifier: TokenVerifier, bit: int) -> None:
    flipped = bytearray(GOOD.encode())
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Refusal):
        verifier.verify(flipped.decode("latin-1"))


@given(text=st.text(max_size=300))
def test_any_text_is_refused_and_nothing_else_happens(verifier: TokenVerifier, text: str) -> None:
    for token in (text, f"{HEAD}.{text}", f"{HEAD}.{BODY}.{text}", f"{text}.{BODY}.{SIGNATURE}"):
        with pytest.raises(Refusal):
            verifier.verify(token)


@given(header=st.binary(max_size=60), payload=st.binary(max_size=60))
def test_signed_junk_is_refused(verifier: TokenVerifier, header: bytes, payload: bytes) -> None:
    for token in (signed(header), signed(payload=payload)):
        with pytest.raises(Refusal):
            verifier.verify(token)


@pytest.mark.parametrize("role", list(GRANTS))
def test_a_token_allows_no_more_than_its_scope_and_its_role(
    verifier: TokenVerifier, role: Any
) -> None:
    everything = " ".join(Scope)
    all_of_it = signed(payload={**CLAIMS, "role": role, "scope": everything})
    assert verifier.verify(all_of_it).scopes == GRANTS[role]
    own = signed(payload={**CLAIMS, "role": role, "scope": scope_claim(role)})
    assert verifier.verify(own).scopes == GRANTS[role]
    less = signed(payload={**CLAIMS, "role": role, "scope": "read nothing-known"})
    assert verifier.verify(less).scopes == {Scope.READ}


def test_what_is_remembered_expires_too(tmp_path: Path) -> None:
    now = Now()
    verifier = TokenVerifier.from_file(key_file(tmp_path, (KID, KEY)), now)
    assert verifier.verify(GOOD) is verifier.verify(GOOD)
    now.second = NOW + 599
    assert verifier.verify(GOOD).user_id == "u1"
    now.second = NOW + 600
    for _ in range(2):
        with pytest.raises(Refusal, match="expired"):
            verifier.verify(GOOD)


def test_what_is_remembered_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert REMEMBERED_MAX >= 10_000
    monkeypatch.setattr("gateway.auth.REMEMBERED_MAX", 2)
    verifier = TokenVerifier.from_file(key_file(tmp_path, (KID, KEY)), Now())
    for jti in range(5):
        assert verifier.verify(signed(payload={**CLAIMS, "jti": str(jti)})).user_id == "u1"
    assert len(verifier._remembered) == 2


def test_rotation_and_retirement_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "REREAD_SECONDS", 0.0)
    new = Ed25519PrivateKey.generate()
    path = key_file(tmp_path, (KID, KEY))
    verifier = TokenVerifier.from_file(path, Now())
    assert verifier.verify(GOOD).user_id == "u1"
    key_file(tmp_path, (KID, KEY), ("new", new))
    assert verifier.verify(signed({**HEADER, "kid": "new"}, key=new)).user_id == "u1"
    assert verifier.verify(GOOD).user_id == "u1"
    key_file(tmp_path, ("new", new))
    with pytest.raises(Refusal, match="not in use"):
        verifier.verify(GOOD)


def test_a_file_that_is_broken_for_a_while_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "REREAD_SECONDS", 0.0)
    path = key_file(tmp_path, (KID, KEY))
    verifier = TokenVerifier.from_file(path, Now())
    for content in (b"", b"{", b'{"keys":[{"kty":"RSA"}]}'):
        path.write_bytes(content)
        assert verifier.verify(GOOD).user_id == "u1"
    path.unlink()
    assert verifier.verify(GOOD).user_id == "u1"


def test_a_token_without_a_kid_needs_the_key_of_before(tmp_path: Path) -> None:
    old = {"sub": "alice", "role": "operator", "exp": NOW + 600}
    verifier = TokenVerifier.from_file(key_file(tmp_path, (LEGACY_KID, KEY)), Now())
    found = verifier.verify(jwt.encode(old, KEY, algorithm="EdDSA"))
    assert (found.user_id, found.scopes) == ("alice", GRANTS["operator"])
    late = {**old, "exp": NOW}
    early = {**old, "nbf": NOW + 60}
    for claims in (late, early, {"sub": "alice", "exp": NOW + 600}):
        with pytest.raises(Refusal):
            verifier.verify(jwt.encode(claims, KEY, algorithm="EdDSA"))


def test_one_keys_pem_will_do(tmp_path: Path) -> None:
    path = tmp_path / "token.pub.pem"
    path.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert TokenVerifier.from_file(path, Now()).verify(GOOD).user_id == "u1"


@pytest.mark.parametrize("header", [None, "", "Basic abc", "Bearer", "Bearer ", f"Bearer{GOOD}"])
def test_the_header_must_bear_a_token(verifier: TokenVerifier, header: str | None) -> None:
    with pytest.raises(Refusal):
        verifier.verify_header(header)


def test_only_ed25519_public_keys_will_do(tmp_path: Path) -> None:
    elliptic = generate_private_key(SECP256R1()).public_key()
    twice = Jwks(keys=(jwk(KEY.public_key(), "a"), jwk(KEY.public_key(), "a")))
    for content in (
        b"",
        elliptic.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        b'{"keys":[{"kty":"oct","k":"AAAA","kid":"a"}]}',
        b'{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAAA"}]}',
        msgspec.json.encode(twice),
    ):
        (tmp_path / "keys").write_bytes(content)
        with pytest.raises(ValueError):
            KeyFile(tmp_path / "keys")
