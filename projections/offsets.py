"""Offsets of channels: 1, 2, 3 … per channel since the log's start, so that a rebuild repeats
them.
"""

from collections.abc import Callable

from projections.batch import Batch, Place, Publication


class Offsets:
    """The newest offset of each channel, kept as a hash beside the views.

    quiet: publications are counted, but neither rendered nor published.
    """

    __slots__ = ("_changed", "_newest", "_place", "quiet")

    def __init__(
        self, place: Place, stored: dict[str, bytes] | None = None, *, quiet: bool = False
    ) -> None:
        self._place = place
        self._newest = {channel: int(offset) for channel, offset in (stored or {}).items()}
        self._changed: set[str] = set()
        self.quiet = quiet

    def publish(self, batch: Batch, channel: str, render: Callable[[], bytes]) -> None:
        """Give a publication the channel's next offset and add it to the batch."""
        offset = self._newest[channel] = self._newest.get(channel, 0) + 1
        self._changed.add(channel)
        if not self.quiet:
            batch.publish(Publication(channel, offset, render()))

    def drain(self, batch: Batch) -> None:
        """Write the offsets that rose."""
        for channel in self._changed:
            batch.put_field(self._place, channel, b"%d" % self._newest[channel])
        self._changed.clear()
