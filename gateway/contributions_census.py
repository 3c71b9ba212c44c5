"""All grants in force, counted by source and by when they end.

No view is kept by source: once in a while, when somebody asks, every user's contribution is read,
page by page, and what was counted is kept for the next who ask.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from schemas.views import ContributionView

if TYPE_CHECKING:
    from gateway.views import Views

USERS_AT_ONCE: Final = 1_000
KEPT_SECONDS_MIN: Final = 10.0
# Older than this no count is shown, so nobody learns of yesterday after a quiet night.
KEPT_SECONDS_MAX: Final = 300.0
# So that counting never takes more than this part of a process, however many users there are.
KEPT_PER_SECOND: Final = 20


class CountedSource(msgspec.Struct):
    """Of the grants in force of one source."""

    weight: int = 0
    grants: int = 0
    users: int = 0


class Ending(msgspec.Struct, frozen=True, order=True, gc=False):
    """A grant that ends. Ordered as they end."""

    expires_second: int
    user_id: str
    grant_id: str
    source: str
    weight: int


class Counted(msgspec.Struct, frozen=True):
    """sources: by name. ending: soonest first. at_second: Unix, of the end of the count."""

    sources: dict[str, CountedSource]
    ending: list[Ending]
    at_second: int

    def ending_after(self, place: tuple[int, str, str], limit: int) -> list[Ending]:
        """Those behind (expires_second, user_id, grant_id), `limit` at most."""
        first = bisect_right(
            self.ending, place, key=lambda one: (one.expires_second, one.user_id, one.grant_id)
        )
        return self.ending[first : first + limit]


class Census:
    """Of one process and event loop."""

    def __init__(self) -> None:
        self._counted: Counted | None = None
        self._fresh_until = self._kept_until = float("-inf")
        self._counting: asyncio.Task[Counted] | None = None

    async def counted(self, views: "Views", now_second: int) -> Counted:
        """KEPT_SECONDS_MIN old at most, or KEPT_PER_SECOND times as old as counting takes; the
        first to ask for a newer one still gets that, unless it is older than KEPT_SECONDS_MAX.

        However many ask at once, they are counted once. Raises ViewsUnavailable.
        """
        now = asyncio.get_running_loop().time()
        if self._counted is not None and now < self._fresh_until:
            return self._counted
        if self._counting is None:
            self._counting = asyncio.create_task(self._count(views, now_second))
            self._counting.add_done_callback(self._end_counting)
        if self._counted is not None and now < self._kept_until:
            return self._counted
        # Shielded: whoever gives up waiting does not end it for the others.
        return await asyncio.shield(self._counting)

    async def _count(self, views: "Views", now_second: int) -> Counted:
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await _everybody(views)
        # In a thread: a hundred thousand users would hold up everybody else.
        self._counted = await asyncio.to_thread(count, found, now_second)
        kept = max(KEPT_SECONDS_MIN, (loop.time() - began) * KEPT_PER_SECOND)
        self._fresh_until = loop.time() + kept
        self._kept_until = self._fresh_until + KEPT_SECONDS_MAX
        return self._counted

    def _end_counting(self, counting: asyncio.Task[Counted]) -> None:
        self._counting = None
        if not counting.cancelled():
            # Whoever waited for it was told; otherwise the next who asks counts again.
            counting.exception()


async def _everybody(views: "Views") -> list[ContributionView]:
    # Who changes places between two pages is met twice, or not at all until the next count.
    found: dict[str, ContributionView] = {}
    start, ranked = 0, 1
    while start < ranked:
        ranked, page = await views.top_weights(USERS_AT_ONCE, start=start)
        found.update({view.user_id: view for view in page})
        start += USERS_AT_ONCE
    return list(found.values())


def count(contributions: Iterable[ContributionView], at_second: int) -> Counted:
    """What these users' grants add up to."""
    sources: dict[str, CountedSource] = {}
    ending = []
    for view in contributions:
        for grant_id, grant in view.grants.items():
            counted = sources.setdefault(grant.source, CountedSource())
            counted.weight += grant.weight
            counted.grants += 1
            if grant.expires_second is not None:
                ending.append(
                    Ending(grant.expires_second, view.user_id, grant_id, grant.source, grant.weight)
                )
        for source in {grant.source for grant in view.grants.values()}:
            sources[source].users += 1
    ending.sort()
    return Counted(sources, ending, at_second)
