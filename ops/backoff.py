"""How long a client of ours waits before it tries again: jittered, doubling, bounded.

Decides the length only; whoever asks does the waiting.
"""

import random

FIRST_S = 0.2
LONGEST_S = 5.0
SHORTEST_SHARE = 0.5


class Backoff:
    """Waits in a row: each up to twice the one before, at most longest_s; reset() after success."""

    def __init__(
        self, rng: random.Random, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S
    ) -> None:
        self._rng = rng
        self._first_s = first_s
        self._longest_s = longest_s
        self._bound_s = first_s

    def reset(self) -> None:
        self._bound_s = self._first_s

    def next_s(self) -> float:
        """Seconds to wait now; jitter keeps clients that failed together from returning in step."""
        bound_s = self._bound_s
        self._bound_s = min(bound_s * 2, self._longest_s)
        return bound_s * self._rng.uniform(SHORTEST_SHARE, 1.0)
