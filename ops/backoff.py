"""How long a client of ours waits before it tries again: jittered, doubling, bounded.

Decides the length only; whoever asks does the waiting.
"""

import random

FIRST_S = 0.2
LONGEST_S = 5.0
SHORTEST_SHARE = 0.5


class Backoff:
    """Waits in a row: each up to twice the one before, at most longest_s; reset() after success.

    shortest_share: of each bound, what is waited at least; 0 spreads a crowd the most.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        shortest_share: float = SHORTEST_SHARE,
    ) -> None:
        self._rng = rng
        self._shortest_share = shortest_share
        self._first_s = first_s
        self._longest_s = longest_s
        self._bound_s = first_s

    def reset(self) -> None:
        self._bound_s = self._first_s

    def next_s(self) -> float:
        """Seconds to wait now; jitter keeps clients that failed together from returning in step."""
        bound_s = self._bound_s
        self._bound_s = min(bound_s * 2, self._longest_s)
        return bound_s * self._rng.uniform(self._shortest_share, 1.0)
