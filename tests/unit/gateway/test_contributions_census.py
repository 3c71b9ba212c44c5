"""What all grants in force add up to, by source and by when they end."""

from gateway.contributions_census import Ending, count
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
