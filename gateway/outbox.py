"""What one connection has yet to be sent, bounded: a client that does not read ends, nobody waits.

A frame with a replace_key takes the place of the unsent frame with the same key (newest wins).
"""

import asyncio
from collections import deque

OUTBOX_FRAMES_MAX = 1_024
OUTBOX_CHARS_MAX = 1 << 20


class _Slot:
    __slots__ = ("frame", "replace_key")

    def __init__(self, frame: str, replace_key: str | None) -> None:
        self.frame = frame
        self.replace_key = replace_key


class Outbox:
    """Many push, one takes. Once overflowed it stays so and takes nothing in."""

    def __init__(
        self, *, frames_max: int = OUTBOX_FRAMES_MAX, chars_max: int = OUTBOX_CHARS_MAX
    ) -> None:
        self.is_overflowed = False
        self._frames_max = frames_max
        self._chars_max = chars_max
        self._slots: deque[_Slot] = deque()
        self._replaceable: dict[str, _Slot] = {}
        self._chars = 0
        self._filled = asyncio.Event()

    def room(self) -> int:
        """Frames that still fit."""
        return self._frames_max - len(self._slots)

    def push(self, frame: str, replace_key: str | None = None) -> bool:
        """Queue one frame. False if it did not fit; what is queued is then dropped as well."""
        if self.is_overflowed:
            return False
        slot = self._replaceable.get(replace_key) if replace_key is not None else None
        if slot is not None:
            self._chars += len(frame) - len(slot.frame)
            slot.frame = frame
        else:
            slot = _Slot(frame, replace_key)
            self._slots.append(slot)
            self._chars += len(frame)
            if replace_key is not None:
                self._replaceable[replace_key] = slot
        if len(self._slots) > self._frames_max or self._chars > self._chars_max:
            self.is_overflowed = True
            self._clear()
            return False
        self._filled.set()
        return True

    def forget(self, replace_key: str) -> None:
        """Let later frames of this key queue behind what is there, not replace it."""
        self._replaceable.pop(replace_key, None)

    async def take(self) -> list[str]:
        """All that is queued, oldest first; waits until there is something."""
        await self._filled.wait()
        frames = [slot.frame for slot in self._slots]
        self._clear()
        return frames

    def _clear(self) -> None:
        self._slots.clear()
        self._replaceable.clear()
        self._chars = 0
        self._filled.clear()
