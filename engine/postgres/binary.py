"""PostgreSQL's binary parameters, packed by hand: 3 to 4 times cheaper than text parameters.

An array is a head and its cells; a cell is a length of 4 bytes and the value. Cells of one length
are joined by that length, which costs one call for the whole array.
Source: PostgreSQL's array_recv; measured in docs/adr/0002-event-store.md.
"""

import struct
from collections.abc import Sequence

TEXT_OID = 25
BYTEA_OID = 17
INT4_OID = 23
INT8_OID = 20
TEXT_ARRAY_OID = 1009
BYTEA_ARRAY_OID = 1001
INT4_ARRAY_OID = 1007
INT8_ARRAY_OID = 1016

# dimensions, has nulls, element oid, length, lower bound
_ARRAY_HEAD = struct.Struct(">iiiii").pack
_LENGTH = struct.Struct(">i").pack
_INT4 = struct.Struct(">i").pack
_INT8 = struct.Struct(">q").pack
# A batch's indexes are small; a table is quicker than packing.
_SMALL_INT4 = tuple(_INT4(value) for value in range(4_096))
_SHORT_LENGTHS = tuple(_LENGTH(length) for length in range(4_096))


def int8(value: int) -> bytes:
    """One bigint parameter."""
    return _INT8(value)


def int4(value: int) -> bytes:
    """One integer parameter."""
    return _INT4(value)


def cell(value: bytes) -> bytes:
    """One array element with its length."""
    return _LENGTH(len(value)) + value


def cells_array(oid: int, cells: Sequence[bytes]) -> bytes:
    """A one-dimensional array of elements that are packed by cell() already."""
    return _ARRAY_HEAD(1, 0, oid, len(cells), 1) + b"".join(cells)


def bytes_array(oid: int, values: Sequence[bytes]) -> bytes:
    """A one-dimensional array of text or bytea of any lengths."""
    parts = [b""] * (2 * len(values))
    parts[1::2] = values
    try:
        parts[::2] = [_SHORT_LENGTHS[len(value)] for value in values]
    except IndexError:
        parts[::2] = [_LENGTH(len(value)) for value in values]
    return _ARRAY_HEAD(1, 0, oid, len(values), 1) + b"".join(parts)


def equal_bytes_array(oid: int, values: Sequence[bytes]) -> bytes:
    """A one-dimensional array of values that all have the same length."""
    length = _LENGTH(len(values[0]))
    return _ARRAY_HEAD(1, 0, oid, len(values), 1) + length + length.join(values)


def int8_array(values: Sequence[int]) -> bytes:
    """A one-dimensional bigint array; not empty."""
    return equal_bytes_array(INT8_OID, list(map(_INT8, values)))


def int4_array(values: Sequence[int]) -> bytes:
    """A one-dimensional array of integers from 0 on; not empty."""
    try:
        packed = [_SMALL_INT4[value] for value in values]
    except IndexError:
        packed = list(map(_INT4, values))
    return equal_bytes_array(INT4_OID, packed)
