"""Offsets of channels: 1, 2, 3 … per channel since the log's start, so that a rebuild repeats
them.
"""

from projections.batch import Batch, Place, Publication


class Offsets:
    """The newest offset of each channel, kept as a hash beside the views."""

    __slots__ = ("_newest", "_place")

    def __init__(self, place: Place, stored: dict[str, bytes] | None = None) -> None:
        self._place = place
        self._newest = {channel: int(offset) for channel, offset in (stored or {}).items()}

    def publish(self, batch: Batch, channel: str, content: bytes) -> None:
        """Give a publication the channel's next offset and add it to the batch."""
        offset = self._newest.get(channel, 0) + 1
        self._newest[channel] = offset
        batch.put_field(self._place, channel, b"%d" % offset)
        batch.publish(Publication(channel, offset, content))
