"""First answers to keyed commands: who asked what, remembered for at least a day, bounded.

Memory holds only which batch answered a key; the answer itself is read back from the log's
database when somebody asks again, which is rare. Digests stand for keys and bodies, so neither can
be read from the database.
"""

import logging
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from engine.ports import AnswerBlock
from schemas import frames
from schemas.rejections import Rejection

log = logging.getLogger("durian.engine")

# First byte of stored records: their shape. Wide ones are JSON: MessagePack's integers stop at 64
# bits, and a refusal may name any amount that somebody asked for.
RECORDS_VERSION = b"\x01"
WIDE_RECORDS_VERSION = b"\x02"
HOUR_NS = 3_600_000_000_000
REMEMBERED_NS = 24 * HOUR_NS
# Whole generations are forgotten at once, so a key is remembered for 24 to 28 hours.
GENERATION_NS = 4 * HOUR_NS
# Stored blocks go only after memory has forgotten them: what memory names can always be read.
STORED_NS = REMEMBERED_NS + 2 * GENERATION_NS
# A gateway asks again under a key of its own only for as long as its client waits.
BRIEF_NS = 120_000_000_000
BRIEF_GENERATION_NS = BRIEF_NS // 2
# About 120 bytes each. 5 million a day are 58 commands a second, day and night.
ANSWERS_MAX = 5_000_000


class AnswerRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """First answer to one keyed command: count events from position `first`, or a refusal.

    is_brief: the key was a gateway's own, remembered for minutes.
    """

    scope: bytes
    body: bytes
    is_brief: bool
    first: int
    count: int
    rejection: Rejection | None = None


_encode_records = msgspec.msgpack.Encoder().encode
_decode_records = msgspec.msgpack.Decoder(list[AnswerRecord]).decode
_encode_wide = msgspec.json.Encoder().encode
_decode_wide = msgspec.json.Decoder(list[AnswerRecord]).decode
_encode_command = msgspec.json.Encoder().encode


def scope_of(request: frames.Request) -> bytes:
    """Digest of what a key must be unique within: user, command type, key."""
    command = request.command
    user_id = getattr(command, "user_id", "")
    named = f"{len(user_id)}:{user_id}{command.__struct_config__.tag}:{request.key}"
    return blake2b(named.encode(), digest_size=16).digest()


def body_of(request: frames.Request) -> bytes:
    """Digest of the command as it was meant: the same fields and values, however spelled."""
    return blake2b(_encode_command(request.command), digest_size=8).digest()


def pack_block(block_id: int, at_ns: int, records: Sequence[AnswerRecord]) -> AnswerBlock:
    try:
        encoded = RECORDS_VERSION + _encode_records(records)
    except OverflowError:
        encoded = WIDE_RECORDS_VERSION + _encode_wide(records)
    return AnswerBlock(block_id, at_ns, encoded)


def records_of(block: AnswerBlock) -> list[AnswerRecord]:
    """Of our own version; none of another, which is told: its keys would be taken for new ones."""
    version, records = block.records[:1], block.records[1:]
    if version == RECORDS_VERSION:
        return _decode_records(records)
    if version == WIDE_RECORDS_VERSION:
        return _decode_wide(records)
    log.warning("first answers of block %d are in another version's shape", block.id)
    return []


def is_brief(request: frames.Request) -> bool:
    """True if the key was made by a gateway, for its own re-sends."""
    return request.key.startswith(frames.OWN_KEY_MARK)


class _Generation:
    """Keys of some time. last_ns: engine time of the newest."""

    __slots__ = ("blocks", "first_ns", "last_ns")

    def __init__(self, first_ns: int) -> None:
        self.first_ns = self.last_ns = first_ns
        self.blocks: dict[bytes, int] = {}


class _Memory:
    """scope -> block id, for remembered_ns at least, dropped a generation at a time."""

    __slots__ = ("_generation_ns", "_generations", "_remembered_ns", "count")

    def __init__(self, remembered_ns: int, generation_ns: int) -> None:
        self._remembered_ns = remembered_ns
        self._generation_ns = generation_ns
        self._generations: list[_Generation] = []
        self.count = 0

    def find(self, scope: bytes, now_ns: int) -> int | None:
        for generation in reversed(self._generations):
            block_id = generation.blocks.get(scope)
            # In a quiet ledger nothing is dropped, but what is too old may be gone from the store.
            if block_id is not None and now_ns - generation.last_ns <= self._remembered_ns:
                return block_id
        return None

    def remember(self, scope: bytes, block_id: int, at_ns: int) -> None:
        newest = self._generations[-1] if self._generations else None
        if newest is None or at_ns - newest.first_ns >= self._generation_ns:
            self.forget(at_ns)
            newest = _Generation(at_ns)
            self._generations.append(newest)
        newest.blocks[scope] = block_id
        newest.last_ns = at_ns
        self.count += 1

    def forget(self, now_ns: int) -> None:
        kept = [g for g in self._generations if now_ns - g.last_ns <= self._remembered_ns]
        self.count = sum(len(generation.blocks) for generation in kept)
        self._generations = kept


class FirstAnswers:
    """scope -> id of the block that holds the first answer. last_id: of the newest block."""

    def __init__(self, most: int = ANSWERS_MAX) -> None:
        self.last_id = 0
        self._most = most
        self._clients = _Memory(REMEMBERED_NS, GENERATION_NS)
        self._gateways = _Memory(BRIEF_NS, BRIEF_GENERATION_NS)

    def __len__(self) -> int:
        return self._clients.count + self._gateways.count

    def is_full(self, now_ns: int) -> bool:
        """True when one more would need more memory than allowed: nothing is forgotten early."""
        if len(self) < self._most:
            return False
        self._clients.forget(now_ns)
        self._gateways.forget(now_ns)
        return len(self) >= self._most

    def find(self, scope: bytes, now_ns: int, *, brief: bool = False) -> int | None:
        """Block with the first answer, if the key was used recently enough."""
        return (self._gateways if brief else self._clients).find(scope, now_ns)

    def remember(self, scope: bytes, block_id: int, at_ns: int, *, brief: bool = False) -> None:
        (self._gateways if brief else self._clients).remember(scope, block_id, at_ns)

    def load(self, blocks: Sequence[AnswerBlock]) -> None:
        """Remember what another leader, or we before a restart, have answered."""
        for block in blocks:
            for record in records_of(block):
                self.remember(record.scope, block.id, block.at_ns, brief=record.is_brief)
            self.last_id = block.id
