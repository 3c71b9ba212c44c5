"""Applying the lines of an import: many commands at once, and what to say of each.

A line's key makes it happen once. What the ledger answers to a line that it knows is true of back
then, so such a line is compared with the grants that are in force now.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

from gateway.commands import submit
from gateway.contributions_import import Fault, Line, import_key
from gateway.endpoint import Call
from gateway.errors import Refusal
from schemas.commands import GrantContribution
from schemas.frames import Accepted
from schemas.rejections import RejectionCode
from schemas.views import ContributionView, GrantView
from schemas.wire_mining import ImportLine, LineOutcome

# Enough to fill the engine's batches, few enough to leave room for orders.
COMMANDS_AT_ONCE: Final = 64
USERS_AT_ONCE: Final = 500
TRIES_MAX: Final = 6
FIRST_PAUSE_SECONDS: Final = 0.05


def reported(
    line: Line, outcome: LineOutcome, *, position: int | None = None, fault: Fault | None = None
) -> ImportLine:
    """The line's report; a fault, its own before the one given, makes it refused."""
    fault = line.fault or fault
    return ImportLine(
        line=line.number,
        outcome=outcome if fault is None else "refused",
        user_id=line.user_id,
        grant_id=line.grant_id,
        position=position if fault is None else None,
        code=fault.code if fault is not None else None,
        detail=fault.detail if fault is not None else None,
        allowed=(fault.allowed or None) if fault is not None else None,
    )


async def contributions(
    call: Call[Any, Any], user_ids: Iterable[str]
) -> dict[str, ContributionView]:
    """What these users have now, by user. Raises ViewsUnavailable."""
    found, asked = {}, sorted(set(user_ids))
    for first in range(0, len(asked), USERS_AT_ONCE):
        for state in await call.resources.views.accounts(asked[first : first + USERS_AT_ONCE]):
            found[state.contribution.user_id] = state.contribution
    return found


def is_same(grant: GrantContribution, held: GrantView | None) -> bool:
    """Whether a grant is in force on these terms."""
    return held is not None and (held.source, held.weight, held.expires_second) == (
        grant.source,
        grant.weight,
        grant.expires_second,
    )


def other_terms(held: GrantView | None) -> Fault:
    """What is wrong with a grant whose id is in force on other terms (held), or is over."""
    detail = "The user had a grant of this id before; an id is used once."
    if held is not None:
        ends = "" if held.expires_second is None else f" until second {held.expires_second}"
        detail = f"The user has this grant on other terms: {held.source} {held.weight}{ends}."
    return Fault(code=RejectionCode.DUPLICATE_GRANT, detail=detail, allowed="another grant_id")


async def apply_lines(call: Call[Any, Any], lines: Sequence[Line]) -> list[ImportLine]:
    """What became of each line. Raises EngineUnavailable, ViewsUnavailable: then some may have been
    applied, and importing again goes on.
    """
    answers: list[Accepted | Refusal | None] = [None] * len(lines)
    waiting = iter(enumerate(lines))

    async def work() -> None:
        for at, line in waiting:
            if isinstance(line.found, GrantContribution):
                answers[at] = await _answer(call, line.found)

    workers = [asyncio.create_task(work()) for _ in range(COMMANDS_AT_ONCE)]
    try:
        # The first fault, such as an engine that is gone, ends the others.
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    known = [
        line.found.user_id
        for line, answer in zip(lines, answers, strict=True)
        if isinstance(line.found, GrantContribution) and _is_known(answer)
    ]
    held = await contributions(call, known)
    return [
        _became(line, answer, held.get(line.user_id or ""))
        for line, answer in zip(lines, answers, strict=True)
    ]


async def _answer(call: Call[Any, Any], grant: GrantContribution) -> Accepted | Refusal:
    pause = FIRST_PAUSE_SECONDS
    for tries_left in reversed(range(TRIES_MAX)):
        try:
            return await submit(call, grant, key=import_key(grant), is_recorded=False)
        except Refusal as exc:
            if exc.code != RejectionCode.OVERLOADED or not tries_left:
                return exc
        await asyncio.sleep(pause)
        pause *= 2
    raise AssertionError("the last try returns")


def _is_known(answer: Accepted | Refusal | None) -> bool:
    if isinstance(answer, Refusal):
        return answer.code == RejectionCode.DUPLICATE_GRANT
    return answer is not None and answer.is_repeat


def _became(
    line: Line, answer: Accepted | Refusal | None, now: ContributionView | None
) -> ImportLine:
    grant = line.found
    if isinstance(grant, Fault) or answer is None:
        return reported(line, "refused")
    held = now.grants.get(grant.grant_id) if now is not None else None
    if isinstance(answer, Accepted):
        # Views that have not come to its position yet cannot tell that it is over.
        is_over = (
            answer.is_repeat
            and now is not None
            and now.position >= answer.last_position
            and not is_same(grant, held)
        )
        fault = other_terms(held) if is_over else None
        return reported(line, "applied", position=answer.last_position, fault=fault)
    if answer.code == RejectionCode.DUPLICATE_GRANT:
        # Given by hand, or imported so long ago that the first answer is forgotten.
        fault = None if is_same(grant, held) else other_terms(held)
        return reported(line, "already", fault=fault)
    told = ", ".join(f"{name} {value}" for name, value in answer.details.items())
    return reported(
        line, "refused", fault=Fault(code=answer.code, detail=answer.detail, allowed=told)
    )
