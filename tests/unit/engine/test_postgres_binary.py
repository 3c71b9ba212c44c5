"""Parameters as PostgreSQL's array_recv reads them, checked against psycopg's own dumpers."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.numeric import Int4, Int8

from engine.postgres import binary

BYTES = st.lists(st.binary(max_size=50), min_size=1, max_size=20)


def _dumped(values: Sequence[object]) -> bytes:
    """psycopg's binary array."""
    transformer = Transformer()
    value = list(values)
    dumped = transformer.get_dumper(value, PyFormat.BINARY).dump(value)
    assert dumped is not None
    return bytes(dumped)


@given(BYTES)
def test_bytes_of_any_length(values: list[bytes]) -> None:
    expected = _dumped(values)
    assert binary.bytes_array(binary.BYTEA_OID, values) == expected
    cells = [binary.cell(value) for value in values]
    assert binary.cells_array(binary.BYTEA_OID, cells) == expected


def test_bytes_longer_than_the_table_of_lengths() -> None:
    values = [b"x", b"y" * 5_000, b""]
    assert binary.bytes_array(binary.BYTEA_OID, values) == _dumped(values)


@given(st.integers(0, 40), st.integers(1, 10))
def test_bytes_of_equal_length(length: int, count: int) -> None:
    values = [bytes([number]) * length for number in range(count)]
    assert binary.equal_bytes_array(binary.BYTEA_OID, values) == _dumped(values)


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1))
def test_bigints(values: list[int]) -> None:
    assert binary.int8_array(values) == _dumped([Int8(value) for value in values])


@pytest.mark.parametrize("values", [[0], [1, 4_095, 7], [0, 4_096, 2_000_000_000]])
def test_integers(values: list[int]) -> None:
    assert binary.int4_array(values) == _dumped([Int4(value) for value in values])


def test_single_numbers() -> None:
    assert binary.int8(-2) == b"\xff" * 7 + b"\xfe"
    assert binary.int4(258) == b"\0\0\1\2"
