"""What a rebuild would do: generations, events, time, memory. Changes nothing."""

import msgspec

from ops.config import Config
from ops.rebuild_shares import Piece, share_out
from ops.rebuilding import Plan, log_head, positions_of
from ops.view_access import open_generations
from projections.generations import Generation
from schemas.views import ACCOUNTS, MARKET, MINING

# Measured by `durian bench rebuild` on two shared cores; only for telling how long it will take.
NS_PER_EVENT = {MARKET: 12_000, MINING: 5_000, ACCOUNTS: 6_000}
OTHER_NS_PER_EVENT = 40_000


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """One projection. positions: of the live views. entries, bytes: of the live generation.

    events: to be folded, over all partitions. seconds: estimated, for all projections together.
    """

    projection: str
    action: str
    live: str
    positions: tuple[int, ...]
    head: int
    entries: int
    bytes: int
    events: int
    seconds: float


async def outlook(config: Config, plan: Plan) -> list[Outlook]:
    """In the plan's order. Raises StoreUnavailable, ViewsUnavailable."""
    found, pieces = [], []
    for name in plan.names:
        store = open_generations(config, name)
        try:
            known = await store.generations()
            live = next(one for one in known if one.state == "live")
            size = await store.size(live.name)
            head = await log_head(config)  # after the views, which may go on
        finally:
            await store.close()
        action, starts = _action(plan, known)
        targets = positions_of(live) if any(positions_of(live)) else (head,) * len(starts)
        mine = [
            Piece(projection=name, partition=number, generation="", start=start, target=target)
            for number, (start, target) in enumerate(zip(starts, targets, strict=True))
        ]
        pieces += mine
        found.append(
            Outlook(
                projection=name,
                action=action,
                live=live.name,
                positions=positions_of(live),
                head=head,
                entries=size.entries,
                bytes=size.bytes,
                events=sum(piece.events for piece in mine),
                seconds=0.0,
            )
        )
    seconds = max(
        (sum(map(_seconds, share)) for share in share_out(pieces, plan.workers)), default=0.0
    )
    return [msgspec.structs.replace(one, seconds=round(seconds, 1)) for one in found]


def _seconds(piece: Piece) -> float:
    return piece.events * NS_PER_EVENT.get(piece.projection, OTHER_NS_PER_EVENT) / 1e9


def _action(plan: Plan, known: list[Generation]) -> tuple[str, tuple[int, ...]]:
    live = next(one for one in known if one.state == "live")
    if plan.is_rollback:
        previous = [one for one in known if one.state == "previous"]
        if not previous:
            return "there is no previous generation to go back to", positions_of(live)
        one = max(previous, key=lambda one: (one.record.switched_at, int(one.name)))
        return f"bring generation {one.name} up to now and go back to it", positions_of(one)
    unfinished = [one for one in known if one.state in ("building", "built")]
    after = {"never": "compare it", "if_equal": "switch to it if it is equal"}.get(
        plan.switch, "switch to it"
    )
    if unfinished:
        one = unfinished[-1]
        return f"go on with generation {one.name}, then {after}", positions_of(one)
    name = max(int(one.name) for one in known) + 1
    return f"make generation {name}, then {after}", (0,) * len(live.checkpoints)
