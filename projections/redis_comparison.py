"""Two generations of one projection in Redis compared at one position, while the live one goes on.

The new generation stands still while both are scanned in pairs. From then on the caller folds it
up to where the live one is, and tells of every batch before it is written: what a batch touches is
read again, what it does not touch stays as it was read. So only few entries are left to be read at
the moment when both are at the same position, and the digests are adjusted by them.
"""

import itertools

from projections.batch import Batch
from projections.differences import Difference, difference
from projections.digest import Digest, number_of
from projections.redis_entries import Entry, Pair, RedisEntries, touched

SHOWN_MAX = 1_000
READ_ENTRIES = 5_000


class RedisComparison:
    """new must never be ahead of old. Memory: what differs and what was touched, never the rest."""

    def __init__(self, entries: RedisEntries, *, new: str, old: str) -> None:
        self._entries = entries
        self._new = new
        self._old = old
        self._equal = Digest()
        # Differing entries by what each adds to the digest of new and of old, None if absent there.
        self._apart: dict[Entry, tuple[int | None, int | None]] = {}
        # Those of them that were found so twice, and the new one had caught up in between. Others
        # may only have been read too early: an order that came and went since is in no batch.
        self._certain: set[Entry] = set()
        self._shown: dict[Entry, Difference] = {}
        self._touched: set[Entry] = set()

    @property
    def pending(self) -> int:
        """Entries to be read again by settle()."""
        return len(self._touched) + len(self._apart) - len(self._certain)

    @property
    def differing(self) -> int:
        return len(self._apart)

    async def scan(self) -> None:
        """Read all entries of both, once; nothing may be written to the new one meanwhile."""
        async for pairs in self._entries.pairs(new=self._new, old=self._old):
            self._take(pairs)

    async def scan_new(self) -> None:
        """Only the new one's digest, where there is nothing to compare it with."""
        async for pairs in self._entries.pairs(new=self._new, old=self._new):
            self._take(pairs)

    async def touch(self, batch: Batch) -> None:
        """To be called before a batch is written to the new generation."""
        changed = touched(batch)
        changed |= set(await self._entries.entries_of(batch.resets, self._new))
        changed -= self._touched
        self._touched |= changed
        surely_equal = []
        for entry in changed:
            if self._apart.pop(entry, None) is None:
                surely_equal.append(entry)
            self._certain.discard(entry)
            self._shown.pop(entry, None)
        for entry, content in (await self._entries.read(self._new, surely_equal)).items():
            if content is not None:
                self._equal.remove(entry.name(), content)

    async def settle(self) -> None:
        """Read again what is pending; the new one must have caught up since the last time."""
        uncertain = [entry for entry in self._apart if entry not in self._certain]
        waiting, self._touched = iter([*self._touched, *uncertain]), set()
        while some := list(itertools.islice(waiting, READ_ENTRIES)):
            new = await self._entries.read(self._new, some)
            old = await self._entries.read(self._old, some)
            self._take([Pair(entry, new[entry], old[entry]) for entry in some])

    def digests(self) -> tuple[Digest, Digest]:
        """Of the new and of the old one, once all is settled."""
        assert not self._touched
        new, old = self._equal.copy(), self._equal.copy()
        for numbers in self._apart.values():
            for digest, number in zip((new, old), numbers, strict=True):
                if number is not None:
                    digest.add_number(number)
        return new, old

    def differences(self) -> tuple[Difference, ...]:
        """At most SHOWN_MAX of them, in the order of their keys."""
        return tuple(self._shown[entry] for entry in sorted(self._shown))

    def _take(self, pairs: list[Pair]) -> None:
        for entry, new, old in pairs:
            if new == old:
                self._apart.pop(entry, None)
                self._shown.pop(entry, None)
                if new is not None:
                    self._equal.add(entry.name(), new)
                continue
            name = entry.name()
            numbers = (
                None if new is None else number_of(name, new),
                None if old is None else number_of(name, old),
            )
            if self._apart.get(entry) == numbers:
                self._certain.add(entry)
                continue
            self._apart[entry] = numbers
            self._shown.pop(entry, None)
            if len(self._shown) < SHOWN_MAX:
                self._shown[entry] = difference(entry, new, old)
