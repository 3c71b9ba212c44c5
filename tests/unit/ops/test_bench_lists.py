"""ops.bench.lists: the log that its lists are read from, and what makes a list wrong."""

from collections import Counter

import pytest

from ops.bench.lists import List, Pages, _rows
from ops.bench.long_lists import BUYER, long_log
from ops.errors import ServerUnavailable
from schemas.events import ContributionAdjusted, MiningAllocated, OrderPlaced, TradeExecuted


def test_each_second_has_a_trade_and_a_change() -> None:
    log = list(long_log(7, 1_700_000_000))
    kinds = Counter(type(event) for event in log)
    assert (kinds[OrderPlaced], kinds[TradeExecuted], kinds[ContributionAdjusted]) == (14, 7, 7)
    assert kinds[MiningAllocated] >= 7
    assert {event.user_id for event in log if isinstance(event, ContributionAdjusted)} == {BUYER}


def test_a_list_is_told_by_its_slowest_page() -> None:
    one = List("trading", f"/v1/fills?user_id={BUYER}", 5)
    (told,) = _rows(one, Pages(5, 0, [3.0, 1.0, 2.0]))
    assert told.metric == "/v1/fills?user_id=U: slowest of 3 pages, ms"
    assert (told.ours, told.reference, told.met) == (3.0, 2.0, True)


@pytest.mark.parametrize("pages", [Pages(4, 0, [1.0]), Pages(6, 1, [1.0])])
def test_a_list_with_gaps_or_repeats_is_no_result(pages: Pages) -> None:
    with pytest.raises(ServerUnavailable):
        list(_rows(List("trading", "/v1/fills?", 5), pages))
