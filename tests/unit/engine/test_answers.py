"""Who asked what: digests of key and body, and a memory that is bounded and keeps its word."""

from hypothesis import given
from hypothesis import strategies as st

from engine.answers import (
    BRIEF_NS,
    GENERATION_NS,
    HOUR_NS,
    REMEMBERED_NS,
    STORED_NS,
    AnswerRecord,
    FirstAnswers,
    body_of,
    is_brief,
    pack_block,
    records_of,
    scope_of,
)
from schemas import commands, frames
from schemas.rejections import Rejection, RejectionCode


def _request(
    key: str = "k", user_id: str = "alice", *, amount: int = 1, number: int = 1, trace: str = ""
) -> frames.Request:
    command = commands.DepositFunds(
        user_id=user_id, asset_id="CNY", amount_minor=amount, reference="r"
    )
    return frames.Request(id=number, command=command, key=key, trace=trace)


def test_a_key_belongs_to_a_user_and_a_command() -> None:
    settle = frames.Request(id=1, command=commands.SettleAccrual(user_id="alice"), key="k")
    market = frames.Request(
        id=1, command=commands.HaltMarket(market_id="alice", reason="r"), key="k"
    )
    different = [_request(), _request("K"), _request(user_id="bob"), settle, market]
    assert len({scope_of(request) for request in different}) == len(different)
    assert scope_of(_request(amount=1)) == scope_of(_request(amount=2, number=9, trace="t"))


def test_where_user_and_key_end_makes_a_difference() -> None:
    assert scope_of(_request("xk", "u")) != scope_of(_request("k", "ux"))


def test_a_body_is_the_command_alone() -> None:
    assert body_of(_request()) == body_of(_request("other", number=2, trace="t"))
    assert body_of(_request(amount=1)) != body_of(_request(amount=2))


def test_blocks_keep_amounts_of_any_size() -> None:
    """Asking for more than 2**64 minor units must not stop the one writer (found by fuzzing)."""
    refused = Rejection(RejectionCode.INSUFFICIENT_FUNDS, {"needed_minor": 10**59})
    records = [
        AnswerRecord(b"a" * 16, b"b" * 8, False, 7, 2),
        AnswerRecord(bytes(16), bytes(8), True, 0, 0, refused),
    ]
    assert records_of(pack_block(3, 4, records)) == records


def test_blocks_keep_acceptances_and_refusals() -> None:
    refused = Rejection(RejectionCode.INSUFFICIENT_FUNDS, {"missing_minor": 5})
    records = [
        AnswerRecord(bytes(16), bytes(8), False, 7, 2),
        AnswerRecord(bytes(16), bytes(8), True, 0, 0, refused),
    ]
    assert records_of(pack_block(3, 4, records)) == records


def test_answers_are_found_again_also_after_a_restart() -> None:
    scope, own = scope_of(_request()), scope_of(_request("~1"))
    restarted = FirstAnswers()
    records = [AnswerRecord(scope, bytes(8), False, 1, 1), AnswerRecord(own, bytes(8), True, 2, 1)]
    restarted.load([pack_block(8, 5, records)])
    assert (restarted.find(scope, 5), restarted.last_id, len(restarted)) == (8, 8, 2)
    assert restarted.find(own, 5, brief=True) == 8
    assert restarted.find(bytes(16), 5) is None


def test_keys_of_gateways_are_remembered_for_minutes() -> None:
    assert [is_brief(_request(key)) for key in ("~k", "k")] == [True, False]
    known = FirstAnswers()
    known.remember(b"own", 1, 0, brief=True)
    known.remember(b"client", 1, 0)
    known.remember(b"later", 2, BRIEF_NS, brief=True)
    assert known.find(b"own", BRIEF_NS, brief=True) == 1
    assert known.find(b"own", BRIEF_NS + 1, brief=True) is None
    known.remember(b"last", 3, 2 * BRIEF_NS, brief=True)
    assert known.find(b"client", 2 * BRIEF_NS) == 1
    assert len(known) == 3


@given(st.lists(st.integers(0, 6 * HOUR_NS), min_size=1, max_size=60))
def test_every_key_is_remembered_for_a_day_and_dropped_before_its_block(gaps: list[int]) -> None:
    known, now_ns, used = FirstAnswers(), 0, []
    for number, gap_ns in enumerate(gaps, start=1):
        now_ns += gap_ns
        scope = number.to_bytes(16)
        known.remember(scope, number, now_ns)
        used.append((scope, number, now_ns))
        for old_scope, old_number, at_ns in used:
            if now_ns - at_ns <= REMEMBERED_NS:
                assert known.find(old_scope, now_ns) == old_number
            if now_ns - at_ns > STORED_NS:
                assert known.find(old_scope, now_ns) is None
        # Nobody else uses a key for long: what memory names must still be in the store.
        assert known.find(scope, now_ns + STORED_NS) is None


def test_a_full_memory_says_so_and_forgets_nothing_early() -> None:
    known = FirstAnswers(most=2)
    known.remember(b"a", 1, 0)
    assert not known.is_full(0)
    known.remember(b"b", 1, 0)
    assert known.is_full(REMEMBERED_NS)
    assert known.find(b"a", REMEMBERED_NS) == 1
    assert not known.is_full(REMEMBERED_NS + 1)
    assert len(known) == 0
    assert STORED_NS > REMEMBERED_NS + GENERATION_NS
