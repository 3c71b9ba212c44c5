"""Two generations' rows up to a position: digests of both, and what only one of them has.

Rows never change and are appended in the log's order, so a comparison can be continued from where
it ended, as far as both have come.
"""

from projections.differences import Difference
from projections.digest import Digest
from projections.generations import Comparison
from projections.history.copying import TABLES
from projections.history.schema import schema_of
from projections.history.store import Connection

DIFFERENCES_MAX = 100
_LIMB_BITS = 64
_LIMBS = range(4)
_HASHES = (
    "SELECT encode(sha256(convert_to(%s || E'\\t' || r::text, 'UTF8')), 'hex') AS h"
    " FROM ({select}) AS r"
)
_LIMB_COLUMNS = ", ".join(
    f"('x' || substr(h, {16 * limb + 1}, 16))::bit(64)::bigint AS l{limb}" for limb in _LIMBS
)
# The sum of SHA-256 of (table, tab, row as text), in four limbs of 64 bits, the highest first.
_SUMS = (
    "SELECT count(*), "
    + ", ".join(f"coalesce(sum(l{n}), 0), count(*) FILTER (WHERE l{n} < 0)" for n in _LIMBS)
    + f" FROM (SELECT {_LIMB_COLUMNS} FROM ({_HASHES}) AS hashed) AS limbs"
)


class Comparing:
    """position: both are compared up to it. differing: rows that only one of the two has.

    is_compared: not, if the old one was lost, so that there is nothing to compare with.
    """

    def __init__(self, *, old: str, new: str) -> None:
        self.old = old
        self.new = new
        self.position = 0
        self.differing = 0
        self.is_compared = True
        self._digests = {old: Digest(), new: Digest()}
        self._differences: list[Difference] = []

    async def advance(self, connection: Connection, position: int) -> None:
        """Compare the rows beyond `position` so far, up to this one; all of it or nothing."""
        if position <= self.position:
            return
        digests = {name: digest.copy() for name, digest in self._digests.items()}
        differing, listed = 0, list[Difference]()
        for table in TABLES:
            for name, digest in digests.items():
                await self._scan(connection, digest, self._select(name, table, position), table)
            if digests[self.old].hex() != digests[self.new].hex():
                count, found = await self._differ(connection, table, position)
                differing += count
                listed += found
        self._digests, self.position = digests, position
        self.differing += differing
        self._differences = (self._differences + listed)[:DIFFERENCES_MAX]

    async def take_new(self, connection: Connection, position: int) -> None:
        """The digest of the new one alone."""
        self.is_compared = False
        for table in TABLES:
            select = self._select(self.new, table, position)
            await self._scan(connection, self._digests[self.new], select, table)
        self.position = position

    def comparison(self, *, switched: bool, held_ms: float) -> Comparison:
        """entries: rows of the old one."""
        return Comparison(
            positions=(self.position,),
            is_compared=self.is_compared,
            old_digest=self._digests[self.old].hex() if self.is_compared else "",
            new_digest=self._digests[self.new].hex(),
            entries=self._digests[self.old].entries,
            differing=self.differing,
            differences=tuple(self._differences),
            switched=switched,
            held_ms=held_ms,
        )

    async def _scan(self, connection: Connection, digest: Digest, select: str, table: str) -> None:
        """Sum the rows' SHA-256 where they are: here it would take five times as long."""
        statement = _SUMS.format(select=select)
        cursor = await connection.execute(statement.encode(), (table,))
        row = await cursor.fetchone()
        assert row is not None
        entries, *sums = row
        limbs, negatives = sums[::2], sums[1::2]
        total = 0
        for limb, negative in zip(limbs, negatives, strict=True):
            # PostgreSQL's integers have a sign: what was read as negative is 2**64 too small.
            total = (total << _LIMB_BITS) + int(limb) + (negative << _LIMB_BITS)
        digest.add_sum(total, entries)

    async def _differ(
        self, connection: Connection, table: str, position: int
    ) -> tuple[int, list[Difference]]:
        """How many rows only one has, and the first of them; both of one position are one line."""
        total, pairs = 0, dict[int, list[list[str]]]()
        for side, (mine, other) in enumerate(((self.old, self.new), (self.new, self.old))):
            ours, theirs = (self._select(name, table, position) for name in (mine, other))
            statement = (
                f"SELECT position, r::text, count(*) OVER () FROM ({ours} EXCEPT ALL {theirs})"
                f" AS r ORDER BY position LIMIT {DIFFERENCES_MAX}"
            )
            rows = await (await connection.execute(statement.encode())).fetchall()
            total += rows[0][2] if rows else 0
            for at, text, _ in rows:
                pairs.setdefault(at, [[], []])[side].append(text)
        listed = []
        for at, (found, expected) in sorted(pairs.items()):
            for row in range(max(len(found), len(expected))):
                difference = Difference(
                    database=0,
                    key=table,
                    field=str(at),
                    expected=expected[row] if row < len(expected) else None,
                    found=found[row] if row < len(found) else None,
                )
                listed.append(difference)
        return total, listed

    def _select(self, generation: str, table: str, position: int) -> str:
        return (
            f"SELECT {TABLES[table].columns} FROM {schema_of(generation)}.{table}"
            f" WHERE position > {self.position} AND position <= {position}"
        )
