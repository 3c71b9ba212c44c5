"""The hash chain: each stored event's hash covers its payload and the hash before it."""

import hashlib
from collections.abc import Iterable, Iterator

GENESIS_HASH = bytes(32)


def chain(previous_hash: bytes, payloads: Iterable[bytes]) -> Iterator[bytes]:
    """SHA-256(previous hash + payload) for each payload in turn; 32 bytes each."""
    for payload in payloads:
        previous_hash = hashlib.sha256(previous_hash + payload).digest()
        yield previous_hash
