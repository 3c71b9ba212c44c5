"""The second factor of an account: set up, confirmed, asked for at sign-in, removed.

Secrets are stored encrypted with a key that the database does not have. A code's step counts once:
whoever looks over a shoulder comes too late.
"""

import hashlib
import os
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.database import Connection, Database
from gateway.errors import Refusal
from gateway.identity import account_rows, totp
from gateway.identity.account_rows import AccountRow
from gateway.identity.records import record
from schemas.wire import WireCode
from schemas.wire_identity import RecoveryCodes, TotpSetup

PENDING_MS: Final = 10 * 60_000
_NONCE_BYTES: Final = 12


class SecondFactor:
    """Every method raises DatabaseUnavailable(accounts_unavailable)."""

    def __init__(
        self, database: Database, *, server_secret: bytes, now_ms: Callable[[], int]
    ) -> None:
        self._database = database
        self._server_secret = server_secret
        self._now_ms = now_ms
        derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"durian second factor")
        self._cipher = AESGCM(derive.derive(server_secret))

    async def set_up(self, user_id: str) -> TotpSetup:
        """A secret to confirm; the same one again for ten minutes, so that a retry is one.

        Raises Refusal(forbidden) if the account has a second factor, Refusal(unknown_user).
        """
        async with self._database.transaction() as connection:
            row = await account_rows.get(connection, user_id, locks=True)
            if row.totp_secret is not None:
                raise Refusal(WireCode.FORBIDDEN, "Remove the second factor there is first.")
            secret, now_ms = self._pending(row), self._now_ms()
            if secret is None:
                secret = totp.new_secret()
                await connection.execute(
                    "UPDATE accounts SET totp_pending = %s, totp_pending_ms = %s"
                    " WHERE user_id = %s",
                    (self._encrypted(user_id, secret), now_ms, user_id),
                )
        account = next(iter(row.names().all()), user_id)
        uri = totp.otpauth_uri(secret, account)
        return TotpSetup(secret=secret, otpauth_uri=uri, qr_svg=totp.qr_svg(uri))

    async def confirm(self, user_id: str, code: str, *, key: str) -> RecoveryCodes:
        """From now on a code is asked for. key: of the request; a retry gets the same answer.

        Raises Refusal(second_factor_invalid), Refusal(unknown_user).
        """
        key_digest = hashlib.sha256(key.encode()).digest() if key else os.urandom(32)
        async with self._database.transaction() as connection:
            row = await account_rows.get(connection, user_id, locks=True)
            if row.totp_secret is None:
                await self._confirm(connection, row, code, key_digest)
            elif not self._is_retry(row, key_digest):
                raise _invalid()
        return RecoveryCodes(codes=totp.recovery_codes(self._server_secret, user_id, key_digest))

    async def is_right(self, connection: Connection, row: AccountRow, code: str) -> bool:
        """A code of the authenticator that was not used before, or a recovery code; used up."""
        assert row.totp_secret is not None, "there is no second factor to be right"
        plain = "".join(code.split())
        if plain.isascii() and plain.isdigit() and len(plain) == 6:
            return await self._takes_step(connection, row, plain)
        digest = totp.recovery_digest(row.user_id, plain)
        used = await connection.execute(
            "UPDATE accounts SET recovery_codes = array_remove(recovery_codes, %s)"
            " WHERE user_id = %s AND %s = ANY (recovery_codes)",
            (digest, row.user_id, digest),
        )
        return used.rowcount > 0

    async def remove(self, connection: Connection, user_id: str) -> None:
        await account_rows.remove_second_factor(connection, user_id)
        await record(connection, "second_factor_removed", at_ms=self._now_ms(), user_id=user_id)

    async def _takes_step(self, connection: Connection, row: AccountRow, code: str) -> bool:
        assert row.totp_secret is not None
        step = totp.matching_step(
            self._decrypted(row.user_id, row.totp_secret),
            code,
            now_second=self._now_ms() // 1_000,
            after_step=row.totp_step,
        )
        if step is None:
            return False
        # Of two at the same moment only one takes the step.
        taken = await connection.execute(
            "UPDATE accounts SET totp_step = %s WHERE user_id = %s AND totp_step < %s",
            (step, row.user_id, step),
        )
        return taken.rowcount > 0

    async def _confirm(
        self, connection: Connection, row: AccountRow, code: str, key_digest: bytes
    ) -> None:
        secret, now_ms = self._pending(row), self._now_ms()
        step = secret and totp.matching_step(
            secret, code, now_second=now_ms // 1_000, after_step=row.totp_step
        )
        if not step:
            raise _invalid()
        codes = totp.recovery_codes(self._server_secret, row.user_id, key_digest)
        await connection.execute(
            "UPDATE accounts SET totp_secret = totp_pending, totp_pending = NULL, totp_step = %s,"
            " totp_confirm_key = %s, totp_confirmed_ms = %s, recovery_codes = %s"
            " WHERE user_id = %s",
            (
                step,
                hashlib.sha256(key_digest).digest(),
                now_ms,
                [totp.recovery_digest(row.user_id, one) for one in codes],
                row.user_id,
            ),
        )
        await record(connection, "second_factor_set", at_ms=now_ms, user_id=row.user_id)

    def _is_retry(self, row: AccountRow, key_digest: bytes) -> bool:
        # The recovery codes follow from the key: what is stored must not be the key itself.
        is_same = row.totp_confirm_key == hashlib.sha256(key_digest).digest()
        return is_same and self._now_ms() - row.totp_confirmed_ms <= PENDING_MS

    def _pending(self, row: AccountRow) -> str | None:
        if row.totp_pending is None or self._now_ms() - row.totp_pending_ms > PENDING_MS:
            return None
        return self._decrypted(row.user_id, row.totp_pending)

    def _encrypted(self, user_id: str, secret: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), user_id.encode())

    def _decrypted(self, user_id: str, stored: bytes) -> str:
        nonce, encrypted = stored[:_NONCE_BYTES], stored[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, encrypted, user_id.encode()).decode()
        except InvalidTag as exc:
            raise Refusal(
                WireCode.ACCOUNTS_UNAVAILABLE,
                "The second factor can't be read: identity.secret is not the one it was set with.",
            ) from exc


def _invalid() -> Refusal:
    return Refusal(WireCode.SECOND_FACTOR_INVALID, "This code is wrong, too old, or was used.")
