"""Leaderboards: only scores that changed are written, 0 takes a user off."""

from projections.batch import Batch
from projections.leaders import MINED_PLACE, WEIGHTS_PLACE, Scores
from schemas import views
from schemas.views import AccountView, BalanceView, ContributionView

DUR = (views.ADMIN_DB, "leaders:holding:DUR")
CNY = (views.ADMIN_DB, "leaders:holding:CNY")


def _account(**balances: tuple[int, int]) -> AccountView:
    shown = {name: BalanceView(available=both[0], held=both[1]) for name, both in balances.items()}
    return AccountView(user_id="ann", balances=shown)


def _ranks(scores: Scores, account: AccountView) -> dict[tuple[int, str], dict[str, int | None]]:
    batch = Batch()
    scores.rank_holdings(batch, account)
    return batch.ranks


def test_a_holding_counts_what_is_held_for_orders() -> None:
    scores = Scores(None, None)
    assert _ranks(scores, _account(DUR=(3, 4), CNY=(0, 0))) == {DUR: {"ann": 7}}
    assert _ranks(scores, _account(DUR=(7, 0), CNY=(5, 0))) == {CNY: {"ann": 5}}
    assert _ranks(scores, _account(DUR=(0, 0), CNY=(5, 0))) == {DUR: {"ann": None}}


def test_stored_views_were_ranked_before() -> None:
    account = _account(DUR=(3, 4))
    contribution = ContributionView(user_id="ann", weight=5, settled_minor=9)
    scores, batch = Scores(account, contribution), Batch()
    scores.rank_holdings(batch, account)
    scores.rank_contribution(batch, contribution)
    assert batch.ranks == {}


def test_weight_and_what_was_mined_are_ranked_apart() -> None:
    scores, batch = Scores(None, None), Batch()
    scores.rank_contribution(batch, ContributionView(user_id="ann", weight=5))
    assert batch.ranks == {WEIGHTS_PLACE: {"ann": 5}}
    batch = Batch()
    scores.rank_contribution(batch, ContributionView(user_id="ann", weight=0, settled_minor=9))
    assert batch.ranks == {WEIGHTS_PLACE: {"ann": None}, MINED_PLACE: {"ann": 9}}
