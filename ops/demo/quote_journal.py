"""The makers' open orders on disk, so that a restarted demo can clear what a killed one left.

Written before an order is placed: after a kill -9 the file names every order that can be on the
book, some perhaps never sent. Sending those again is harmless, for their ids make them unique.
"""

import logging
from pathlib import Path

import msgspec

from ops.datadir import write_atomic
from ops.demo.quotes import Quote

log = logging.getLogger("durian")

_Quotes = dict[str, tuple[Quote, ...]]
_decoder = msgspec.json.Decoder(_Quotes)


class QuoteJournal:
    """Quotes by user; note() replaces the file as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._quotes: _Quotes = {}

    def left_over(self) -> dict[str, tuple[Quote, ...]]:
        """What the file says; nothing if there is none or it cannot be read."""
        try:
            self._quotes = _decoder.decode(self._path.read_bytes())
        except FileNotFoundError:
            self._quotes = {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("open orders of an earlier demo are forgotten: %s", error)
            self._quotes = {}
        return dict(self._quotes)

    def note(self, user: str, quotes: tuple[Quote, ...]) -> None:
        self._quotes[user] = quotes
        write_atomic(self._path, msgspec.json.encode(self._quotes))
