"""Guessing is slowed in PostgreSQL, so that neither a restart nor another process forgets it.

An attempt counts as failed before it is looked at, so that many at once are not many for free; a
success takes it back. Two counts: of a name from one network, which soon waits long; and of an
account from all networks where it is not at home, which never waits long. From where the account
has signed in before only the first counts, so that strangers can't lock its owner out.
"""

import hmac
from typing import Final

import msgspec

from gateway.database import Connection

FORGOTTEN_MS: Final = 24 * 3_600_000
_SWEPT_ROWS: Final = 10


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """After `free` attempts one waits a second, then two, then four, up to longest_ms."""

    free: int
    longest_ms: int


FROM_NETWORK: Final = Policy(free=5, longest_ms=900_000)
FROM_ANYWHERE: Final = Policy(free=50, longest_ms=30_000)

_RESERVE: Final = """
INSERT INTO sign_in_delays AS d (about, failures, failed_ms, delayed_until_ms)
VALUES (%(about)s, 1, %(now)s, 0)
ON CONFLICT (about) DO UPDATE SET
    failures = CASE WHEN d.failed_ms < %(now)s - %(forgotten)s THEN 1 ELSE d.failures + 1 END,
    failed_ms = %(now)s,
    delayed_until_ms = CASE
        WHEN d.failed_ms < %(now)s - %(forgotten)s OR d.failures + 1 < %(free)s THEN 0
        ELSE %(now)s + least(%(longest)s, 1000 * 2 ^ least(d.failures + 1 - %(free)s, 30))::bigint
    END
WHERE d.delayed_until_ms <= %(now)s
RETURNING true
"""
_SWEEP: Final = f"""
DELETE FROM sign_in_delays WHERE about IN (
    SELECT about FROM sign_in_delays WHERE failed_ms < %s
    ORDER BY failed_ms LIMIT {_SWEPT_ROWS} FOR UPDATE SKIP LOCKED)
"""


class Suspect(msgspec.Struct, frozen=True):
    """What attempts are counted by: digests. anywhere: None where the account is at home."""

    network: bytes
    anywhere: bytes | None


def suspect(
    server_secret: bytes, *, typed: str, account: str, network: str, is_home: bool
) -> Suspect:
    """typed: the name as it is looked for, so that two names of one person can't be told to be.

    account: its id, or the name where nobody is called so. is_home: the account has signed in from
    this network before, so that others' guesses elsewhere are not held against it.
    """

    def digest(*parts: str) -> bytes:
        told = "\0".join(("delay", *parts)).encode("utf-8", "surrogatepass")
        return hmac.digest(server_secret, told, "sha256")

    return Suspect(
        digest("network", typed, network), None if is_home else digest("anywhere", account)
    )


async def reserve(connection: Connection, who: Suspect, *, now_ms: int) -> int:
    """Count an attempt; 0 if it may be made now, else how many milliseconds to wait."""
    for about, policy in ((who.network, FROM_NETWORK), (who.anywhere, FROM_ANYWHERE)):
        wait_ms = about and await _reserve(connection, about, policy, now_ms)
        if wait_ms:
            return int(wait_ms)
    await connection.execute(_SWEEP, (now_ms - FORGOTTEN_MS,))
    return 0


async def succeeded(connection: Connection, who: Suspect) -> None:
    """The attempt was right: those from there are forgotten, and one of all is taken back."""
    await connection.execute("DELETE FROM sign_in_delays WHERE about = %s", (who.network,))
    if who.anywhere is None:
        return
    await connection.execute(
        "UPDATE sign_in_delays SET failures = greatest(failures - 1, 0), delayed_until_ms = 0"
        " WHERE about = %s",
        (who.anywhere,),
    )


async def _reserve(connection: Connection, about: bytes, policy: Policy, now_ms: int) -> int:
    fields = {
        "about": about,
        "now": now_ms,
        "forgotten": FORGOTTEN_MS,
        "free": policy.free,
        "longest": policy.longest_ms,
    }
    reserved = await (await connection.execute(_RESERVE, fields)).fetchone()
    if reserved is not None:
        return 0
    query = "SELECT delayed_until_ms FROM sign_in_delays WHERE about = %s"
    row = await (await connection.execute(query, (about,))).fetchone()
    return max(row[0] - now_ms, 1) if row is not None else 1
