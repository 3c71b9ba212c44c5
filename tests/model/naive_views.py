"""The log as plain rows, and what any view of it is: JSON by (database, key).

The naive recomputation of every view starts here: naive_views_market.py, naive_views_mining.py and
naive_views_users.py go through these rows as often as they like. Shares no code with projections/
or domain/.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

Row = dict[str, Any]
# A string's JSON, a hash's JSON by field, a list's JSON in order, a sorted set's scores by member.
Views = dict[tuple[int, str], Any]
SHOWN_MAX = 300
# What a projection keeps for itself: no view, and nobody but the projection reads it.
PRIVATE = ("state:", "offsets:", "checkpoint:", "feed:", "book:")


class Log:
    """Events up to some position. rows: their JSON with position and second."""

    def __init__(self, payloads: Iterable[bytes | Mapping[str, Any]]) -> None:
        self.rows: list[Row] = []
        self._by_type: dict[str, list[Row]] = {}
        for position, payload in enumerate(payloads, 1):
            event = payload if isinstance(payload, Mapping) else json.loads(payload)
            self.add({**event, "position": position, "second": event["at_ns"] // 10**9})

    @property
    def second(self) -> int:
        """The log's time: that of its last event."""
        return int(self.rows[-1]["second"])

    @property
    def assets(self) -> list[Row]:
        return [asset for opened in self.of("ledger_opened") for asset in opened["assets"]]

    def until(self, position: int) -> "Log":
        """The log as it was; may be empty."""
        shorter = Log([])
        for row in self.rows[:position]:
            shorter.add(row)
        return shorter

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self._by_type.setdefault(row["type"], []).append(row)

    def of(self, kind: str) -> list[Row]:
        """Events of one type, in the log's order."""
        return self._by_type.get(kind, [])

    def scale(self, asset_id: str) -> int:
        (scale,) = [asset["scale"] for asset in self.assets if asset["asset_id"] == asset_id]
        return int(scale)


def decoded(stored: Mapping[tuple[int, str], Any]) -> Views:
    """Stored views as JSON, without what is private to the projection."""
    return {
        place: _decode(value) for place, value in stored.items() if not place[1].startswith(PRIVATE)
    }


def _decode(value: Any) -> Any:
    if isinstance(value, bytes):
        return json.loads(value)
    if isinstance(value, dict):
        return {field: _decode(content) for field, content in value.items()}
    if isinstance(value, list):
        return [_decode(content) for content in value]
    return value


def differences(expected: Views, found: Views) -> list[str]:
    """One line per key or field that is not as expected; nothing at a key is the same as no key."""
    lines = []
    for place in sorted({*expected, *found}):
        wanted, got = expected.get(place) or None, found.get(place) or None
        if wanted == got:
            continue
        if isinstance(wanted, dict) and isinstance(got, dict):
            for field in sorted({*wanted, *got}):
                if wanted.get(field) != got.get(field):
                    lines.append(_line(place, field, wanted.get(field), got.get(field)))
        else:
            lines.append(_line(place, "", wanted, got))
    return lines


def _line(place: tuple[int, str], field: str, wanted: object, got: object) -> str:
    told = f"{place[1]} {field}: naive {wanted!r}"[:SHOWN_MAX]
    return f"{told}\n    found {got!r}"[: 2 * SHOWN_MAX]
