"""projections.digest: order does not matter, everything else does."""

from hypothesis import given
from hypothesis import strategies as st

from projections.digest import Digest, number_of

ENTRIES = st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=8)


def _digest(entries: list[tuple[bytes, bytes]]) -> Digest:
    digest = Digest()
    for entry in entries:
        digest.add(*entry)
    return digest


@given(ENTRIES, st.randoms())
def test_order_does_not_matter(entries: list[tuple[bytes, bytes]], chance: object) -> None:
    shuffled = list(entries)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _digest(entries).hex() == _digest(shuffled).hex()


@given(ENTRIES, ENTRIES)
def test_taking_out_undoes_putting_in(
    kept: list[tuple[bytes, bytes]], gone: list[tuple[bytes, bytes]]
) -> None:
    digest = _digest([*kept, *gone])
    for entry in gone:
        digest.remove(*entry)
    assert (digest.hex(), digest.entries) == (_digest(kept).hex(), len(kept))


def test_parts_cannot_flow_into_each_other() -> None:
    assert number_of(b"ab", b"c") != number_of(b"a", b"bc")


def test_equal_entries_are_counted() -> None:
    assert _digest([(b"a", b"b")] * 2).hex() != _digest([]).hex()
    assert _digest([]).hex() == "0" * 64


def test_copy_goes_its_own_way() -> None:
    digest = _digest([(b"a", b"b")])
    twin = digest.copy()
    twin.add_number(number_of(b"c", b"d"))
    assert (digest.entries, twin.entries) == (1, 2)
    assert twin.hex() == _digest([(b"a", b"b"), (b"c", b"d")]).hex()
