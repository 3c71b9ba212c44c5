"""Reading one's own writes: a request may name the position that its answer has to show.

Every command's answer has its position; with `min_position` a read waits until the views are there.
"""

from typing import Any, Final, Literal

from gateway.endpoint import Call, Reading
from gateway.errors import Refusal
from gateway.ports import Resources
from gateway.progress import ReadPosition
from gateway.views import partition_of_accounts
from schemas.views import ACCOUNTS, HISTORY
from schemas.wire import WireCode

Projection = Literal["market", "mining", "accounts", "history"]
RETRY_SECONDS: Final = 1


async def caught_up(
    call: Call[Any, Any], projection: Projection, user_id: str | None = None
) -> None:
    """Wait until the views of a projection are at or past the request's min_position, if it has
    one; of accounts, those of one user.

    Raises Refusal(views_behind) after gateway.progress.WAIT_SECONDS_MAX, ViewsUnavailable.
    """
    parameters = call.parameters
    assert isinstance(parameters, Reading), "an endpoint that reads views has Reading parameters"
    wanted = parameters.min_position
    if not wanted:
        return
    partition = 0
    if projection == ACCOUNTS:
        assert user_id is not None, "views of accounts are those of a user"
        partition = partition_of_accounts(user_id)
    read = _position(call.resources, projection, partition)
    reached = await call.resources.progress.reach((projection, partition), wanted, read)
    if reached < wanted:
        raise Refusal(
            WireCode.VIEWS_BEHIND,
            f"The views are at position {reached}, not yet at {wanted}; try again.",
            {"position": reached, "wanted": wanted},
            retry_after=RETRY_SECONDS,
        )


def _position(found: Resources, projection: Projection, partition: int) -> ReadPosition:
    if projection != HISTORY:
        return lambda: found.views.position(projection, partition)
    if found.history is None:
        raise Refusal(WireCode.HISTORY_UNAVAILABLE, "No deep history is configured here.")
    return found.history.position
