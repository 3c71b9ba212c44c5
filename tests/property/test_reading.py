"""Reading functions against brute force: what the state said, second by second."""

from hypothesis import given
from hypothesis import strategies as st

from domain.reading import (
    MINUTE_SECONDS,
    MiningRecord,
    WeightChange,
    accrued_ever_minor,
    allocation_minor,
    mining_records,
    stretches_of,
)
from schemas import commands
from schemas.events import (
    ContributionAdjusted,
    ContributionExpired,
    ContributionGranted,
    LedgerEvent,
    MiningAllocated,
)
from schemas.rejections import Rejection
from tests.unit.domain.scenario import Scenario

USERS = ("alice", "bob")
# A minute begins ten seconds after genesis.
GENESIS = 1_699_999_980 + 50
Action = tuple[str, str | None, int | None, int | None]
History = list[tuple[int, Action]]
actions = st.one_of(
    st.tuples(st.just("grant"), st.sampled_from(USERS), st.sampled_from((1, 2, 7, 1 << 63)),
              st.one_of(st.none(), st.integers(1, 70))),
    st.tuples(st.just("adjust"), st.sampled_from(USERS), st.integers(0, 3),
              st.one_of(st.none(), st.integers(1, 70))),
    st.tuples(st.just("settle"), st.sampled_from(USERS), st.none(), st.none()),
    st.tuples(st.just("reward"), st.none(), st.integers(0, 1_000), st.integers(1, 9)),
)  # fmt: skip
histories = st.lists(st.tuples(st.integers(0, 45), actions), min_size=1, max_size=9)


class _Watched:
    """A history, with what the state says after every second."""

    def __init__(self, pool_minor: int) -> None:
        self.scenario = Scenario(
            pool_minor=pool_minor, emission=((0, 100), (100, 13)), genesis_second=GENESIS
        )
        self.index: dict[int, int] = {GENESIS: 0}
        self.ever: dict[tuple[str, int], int] = {}
        self.weight: dict[tuple[str, int], int] = {}
        self.look()

    def tick(self, seconds: int) -> None:
        for _ in range(seconds):
            # What a second ends with is known when the next one begins.
            self.look()
            allocated = self.scenario.tick()[-1]
            assert isinstance(allocated, MiningAllocated)
            self.index[allocated.second] = allocated.index
            self.look()

    def look(self) -> None:
        state, second = self.scenario.state, self.scenario.second
        assert state.mining is not None
        for user_id in USERS:
            user = state.contributions.users.get(user_id)
            self.weight[user_id, second] = user.weight if user else 0
            paid = user.settled_minor + user.accrued_minor(state.mining.index) if user else 0
            self.ever[user_id, second] = paid

    def act(self, kind: str, user_id: str | None, number: int | None, lasts: int | None) -> None:
        scenario = self.scenario
        expires = None if lasts is None else scenario.second + lasts
        match kind:
            case "grant":
                scenario.grant(user_id or "", number or 1, expires_second=expires)
            case "reward":
                scenario.accept(
                    commands.ScheduleEmission(from_second=expires or 0, reward_minor=number or 0)
                )
            case "settle":
                settle = commands.SettleAccrual(user_id=user_id or "")
                if not isinstance(scenario.decide(settle), Rejection):
                    scenario.accept(settle)
            case _:
                user = scenario.state.contributions.users.get(user_id or "")
                for grant_id in list(user.grants)[:1] if user else []:
                    scenario.accept(
                        commands.AdjustContribution(
                            user_id=user_id or "",
                            grant_id=grant_id,
                            weight=number or 0,
                            expires_second=expires,
                        )
                    )


def _changes(log: list[LedgerEvent], user_id: str) -> list[WeightChange]:
    kinds = ContributionGranted | ContributionAdjusted | ContributionExpired
    return [event for event in log if isinstance(event, kinds) and event.user_id == user_id]


def _watched(pool: int, history: History) -> _Watched:
    watched = _Watched(pool)
    for gap, action in history:
        watched.tick(gap)
        watched.act(*action)
    watched.tick(130)
    return watched


@given(pool=st.sampled_from((2_000, 10**9)), history=histories)
def test_accrued_at_any_second_and_allocation_of_any_second(pool: int, history: History) -> None:
    watched = _watched(pool, history)
    for user_id in USERS:
        stretches = stretches_of(_changes(watched.scenario.log, user_id))
        for second, index in watched.index.items():
            ever = watched.ever[user_id, second]
            assert accrued_ever_minor(stretches, index) == ever
            if second > GENESIS:
                before = watched.index[second - 1]
                allocated = allocation_minor(stretches, index_before=before, index_after=index)
                assert allocated == ever - watched.ever[user_id, second - 1]


@given(pool=st.sampled_from((2_000, 10**9)), history=histories, data=st.data())
def test_minute_records_are_the_sums_of_their_seconds(
    pool: int,
    history: History,
    data: st.DataObject,
) -> None:
    watched = _watched(pool, history)
    last = watched.scenario.second
    marks = {
        second - MINUTE_SECONDS + 1: index
        for second, index in watched.index.items()
        if second % MINUTE_SECONDS == MINUTE_SECONDS - 1
    }
    first, end = sorted(data.draw(st.tuples(*[st.integers(GENESIS - 200, last + 200)] * 2)))
    for user_id in USERS:
        stretches = stretches_of(_changes(watched.scenario.log, user_id))
        found = mining_records(stretches, marks, from_second=first, to_second=end)
        expected = []
        for minute in sorted(marks):
            if minute + MINUTE_SECONDS <= first or minute >= end:
                continue
            closes = minute + MINUTE_SECONDS - 1
            before = watched.ever.get((user_id, minute - 1), 0)
            amount = watched.ever[user_id, closes] - before
            expected.append(MiningRecord(minute, amount, watched.weight[user_id, closes]))
        assert found == expected
