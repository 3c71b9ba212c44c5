"""Digest of a set of entries, whatever their order: the sum of their SHA-256, modulo 2**256.

An entry can be added or taken out at any time, so the digest of views that change is adjusted entry
by entry. Equal entries are counted, not cancelled.
"""

from hashlib import sha256

_MODULUS = 1 << 256


def number_of(*parts: bytes) -> int:
    """What one entry adds to a digest's sum; its parts may be of any length."""
    # Lengths first, so that no two entries are the same bytes.
    lengths = b"".join(len(part).to_bytes(4, "big") for part in parts)
    return int.from_bytes(sha256(lengths + b"".join(parts)).digest(), "big")


class Digest:
    """entries: how many are in it now."""

    __slots__ = ("_sum", "entries")

    def __init__(self) -> None:
        self._sum = 0
        self.entries = 0

    def add(self, *parts: bytes) -> None:
        """Put one entry in."""
        self.add_number(number_of(*parts))

    def remove(self, *parts: bytes) -> None:
        """Take one entry out that was put in as it is."""
        self._sum -= number_of(*parts)
        self.entries -= 1

    def add_number(self, number: int) -> None:
        """Put one entry in by its number_of()."""
        self._sum += number
        self.entries += 1

    def add_sum(self, total: int, entries: int) -> None:
        """Put entries in whose number_of() were summed up elsewhere."""
        self._sum += total
        self.entries += entries

    def copy(self) -> "Digest":
        twin = Digest()
        twin._sum, twin.entries = self._sum, self.entries
        return twin

    def hex(self) -> str:
        """64 hexadecimal digits; of nothing, zeros."""
        return (self._sum % _MODULUS).to_bytes(32, "big").hex()
