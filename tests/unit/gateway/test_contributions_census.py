"""What all grants in force add up to, by source and by when they end."""

import asyncio
from typing import cast

import pytest

from gateway.contributions_census import Census, Ending, count
from gateway.errors import ViewsUnavailable
from gateway.views import Views
from schemas.views import ContributionView, GrantView


def contribution(user_id: str, **grants: tuple[str, int, int | None]) -> ContributionView:
    return ContributionView(
        user_id=user_id,
        weight=sum(weight for _, weight, _ in grants.values()),
        grants={
            grant_id: GrantView(source=source, weight=weight, expires_second=expires_second)
            for grant_id, (source, weight, expires_second) in grants.items()
        },
    )


USERS = [
    contribution("ann", a=("device", 5, None), b=("device", 7, 300), c=("friend", 1, 100)),
    contribution("bob", a=("device", 1 << 60, 300)),
    contribution("cy"),
]


def test_sources_add_up_weights_grants_and_users() -> None:
    counted = count(USERS, at_second=9)
    shown = {name: (one.weight, one.grants, one.users) for name, one in counted.sources.items()}
    assert shown == {"device": (12 + (1 << 60), 3, 2), "friend": (1, 1, 1)}
    assert counted.at_second == 9


def test_grants_that_end_are_paged_in_the_order_they_end() -> None:
    counted = count(USERS, at_second=9)
    ending = [
        Ending(100, "ann", "c", "friend", 1),
        Ending(300, "ann", "b", "device", 7),
        Ending(300, "bob", "a", "device", 1 << 60),
    ]
    assert counted.ending_after((0, "", ""), 10) == ending
    assert counted.ending_after((300, "ann", "b"), 10) == ending[2:]
    assert counted.ending_after((100, "ann", "c"), 1) == ending[1:2]


class Crowd:
    """Views of so many users; counts how often the first page is read."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_away = False

    async def top_weights(self, many: int, *, start: int) -> tuple[int, list[ContributionView]]:
        self.reads += start == 0
        if self.is_away:
            raise ViewsUnavailable("away")
        return len(USERS), USERS[start : start + many]


def test_however_many_ask_they_are_counted_once() -> None:
    async def scene() -> None:
        crowd, census = Crowd(), Census()
        views = cast(Views, crowd)
        found = await asyncio.gather(*[census.counted(views, 9) for _ in range(20)])
        assert crowd.reads == 1
        assert {id(counted) for counted in found} == {id(found[0])}
        assert (await census.counted(views, 10)).at_second == 9

    asyncio.run(scene())


def test_views_that_are_away_are_a_fault_and_asked_again() -> None:
    async def scene() -> None:
        crowd, census = Crowd(), Census()
        views = cast(Views, crowd)
        crowd.is_away = True
        with pytest.raises(ViewsUnavailable):
            await census.counted(views, 9)
        crowd.is_away = False
        assert (await census.counted(views, 10)).at_second == 10

    asyncio.run(scene())


def test_an_old_count_is_shown_while_it_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.contributions_census.KEPT_SECONDS_MIN", 0.0)
    monkeypatch.setattr("gateway.contributions_census.KEPT_PER_SECOND", 0)

    async def scene() -> None:
        crowd, census = Crowd(), Census()
        views = cast(Views, crowd)
        await census.counted(views, 9)
        crowd.is_away = True
        assert (await census.counted(views, 10)).at_second == 9, "a fault then concerns nobody"
        crowd.is_away = False
        async with asyncio.timeout(10):
            while True:
                if (await census.counted(views, 11)).at_second != 9:
                    break
                await asyncio.sleep(0)

    asyncio.run(scene())
