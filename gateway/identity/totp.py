"""The second factor: six digits of half a minute, and recovery codes for a lost device.

Pure: what is stored, and that a step counts once, is gateway.identity.second_factor's business.
Source: RFC 6238, RFC 4226.
"""

import base64
import hashlib
import hmac
import io
import secrets
from typing import Final

import pyotp
import segno

STEP_SECONDS: Final = 30
# A code of the step before or after is right too: clocks differ, and people type slowly.
STEPS_AROUND: Final = 1
SECRET_BYTES: Final = 20
RECOVERY_CODES: Final = 10
_RECOVERY_CHARS: Final = 16
ISSUER: Final = "Durian"


def new_secret() -> str:
    return base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()


def code_at(secret: str, step: int) -> str:
    return pyotp.TOTP(secret, interval=STEP_SECONDS).at(step * STEP_SECONDS)


def matching_step(secret: str, code: str, *, now_second: int, after_step: int) -> int | None:
    """The step whose code it is; None for a wrong one, or one not newer than the last one used."""
    now = now_second // STEP_SECONDS
    found = None
    for step in range(now - STEPS_AROUND, now + STEPS_AROUND + 1):
        is_right = hmac.compare_digest(code_at(secret, step).encode(), code.encode())
        if is_right and step > after_step:
            found = step
    return found


def otpauth_uri(secret: str, account: str) -> str:
    return pyotp.TOTP(secret, interval=STEP_SECONDS).provisioning_uri(
        name=account, issuer_name=ISSUER
    )


def qr_svg(uri: str) -> str:
    """As a data: URI, for an <img>."""
    out = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(out, kind="svg", scale=4, xmldecl=False)
    return f"data:image/svg+xml;base64,{base64.b64encode(out.getvalue()).decode()}"


def recovery_codes(server_secret: bytes, user_id: str, key: bytes) -> tuple[str, ...]:
    """Derived, so that a retry with the same key gets the same ones without keeping them."""
    found = []
    for number in range(RECOVERY_CODES):
        told = b"recovery\0" + user_id.encode() + b"\0" + key + number.to_bytes(2, "big")
        text = base64.b32encode(hmac.digest(server_secret, told, "sha256")).decode().lower()
        found.append("-".join(text[at : at + 4] for at in range(0, _RECOVERY_CHARS, 4)))
    return tuple(found)


def recovery_digest(user_id: str, code: str) -> bytes:
    """80 bits of chance need no slow hash."""
    plain = "".join(code.split()).replace("-", "").lower()
    return hashlib.sha256(f"{user_id}\0{plain}".encode("utf-8", "surrogatepass")).digest()
