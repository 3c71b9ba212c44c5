"""Drives a tape through the real system on a virtual clock, as fast as the engine commits.

Each trade is a resting order and a taking order of two simulated users. Commands carry ids made
from the tape's row numbers, so that a window whose outcome is unknown (the engine was killed) is
simply sent again: what is in already is refused as a duplicate, and the clock does not go back.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple, Protocol

from ops.demo.tape import Tape, TapeTrade
from ops.errors import OpsError
from schemas.commands import DepositFunds, GrantContribution, LedgerCommand, PlaceOrder
from schemas.frames import Accepted, AdvanceClock, Refused
from schemas.rejections import RejectionCode

MAKER, TAKER = "tape-maker", "tape-taker"
MINERS = 10
WINDOW_COMMANDS = 1_500
SECOND_NS = 1_000_000_000
_ALREADY_IN = frozenset(
    {
        RejectionCode.DUPLICATE_CLIENT_ORDER_ID,
        RejectionCode.DUPLICATE_REFERENCE,
        RejectionCode.DUPLICATE_GRANT,
    }
)

WarpCommand = LedgerCommand | AdvanceClock


class Engine(Protocol):
    """Sends in call order, many commands in flight; raises `unavailable` if the outcome is
    unknown.
    """

    async def submit(self, command: WarpCommand) -> Accepted | Refused: ...


class WarpFailed(OpsError):
    """The ledger refused what the tape says; str(error) has the code."""


class Warped(NamedTuple):
    """position: last position of the ledger when the tape was through."""

    trades: int
    seconds: int
    position: int


async def warp(
    tape: Tape,
    engine: Engine,
    *,
    unavailable: type[Exception],
    progress: Callable[[int], None],
) -> Warped:
    """Replay a whole tape; progress is told the number of trades done.

    Raises WarpFailed when the ledger refuses a command.
    """
    commands = enumerate_commands(tape)
    position = done = 0
    while window := list(islice(commands, WINDOW_COMMANDS)):
        position = max(position, await _send_window(window, engine, unavailable))
        done += sum(isinstance(command, PlaceOrder) for command in window) // 2
        progress(done)
    return Warped(len(tape.trades), tape.last_second - tape.first_second + 1, position)


async def _send_window(
    window: list[WarpCommand], engine: Engine, unavailable: type[Exception]
) -> int:
    while True:
        answers = await asyncio.gather(
            *(engine.submit(command) for command in window), return_exceptions=True
        )
        faults = [answer for answer in answers if isinstance(answer, BaseException)]
        if not faults:
            break
        for fault in faults:
            if not isinstance(fault, unavailable):
                raise fault
    position = 0
    for command, answer in zip(window, answers, strict=True):
        if isinstance(answer, Accepted):
            position = max(position, answer.last_position)
        elif isinstance(answer, Refused) and answer.rejection.code not in _ALREADY_IN:
            raise WarpFailed(f"{answer.rejection.code}: {answer.rejection.details} for {command}")
    return position


def enumerate_commands(tape: Tape) -> Iterator[WarpCommand]:
    """Everything the tape does, in order: miners, funds, then clock, maker and taker per trade."""
    base, quote = tape.market.base_asset, tape.market.quote_asset
    base_minor = sum(trade.quantity_minor for trade in tape.trades)
    quote_minor = sum(map(tape.quote_minor, tape.trades))
    for number in range(1, MINERS + 1):
        yield GrantContribution(
            user_id=f"miner-{number}", grant_id="tape", source="demo", weight=number * number
        )
    for user_id in (MAKER, TAKER):
        for asset_id, amount in ((base, base_minor), (quote, quote_minor)):
            yield DepositFunds(
                user_id=user_id,
                asset_id=asset_id,
                amount_minor=amount,
                reference=f"tape-{user_id}-{asset_id}",
            )
    last_ms = 0
    for row, trade in enumerate(tape.trades, start=1):
        if trade.time_ms != last_ms:
            last_ms = trade.time_ms
            yield AdvanceClock(to_ns=last_ms * 1_000_000)
        yield _order(tape, trade, row, resting=True)
        yield _order(tape, trade, row, resting=False)


def _order(tape: Tape, trade: TapeTrade, row: int, *, resting: bool) -> PlaceOrder:
    buying = (trade.taker_side == "buy") != resting
    return PlaceOrder(
        user_id=MAKER if resting else TAKER,
        client_order_id=f"tape-{row}",
        market_id=tape.market.market_id,
        side="buy" if buying else "sell",
        order_type="limit",
        time_in_force="gtc" if resting else "ioc",
        price_minor=trade.price_minor,
        quantity_minor=trade.quantity_minor,
    )


def burned_minor(tape: Tape) -> int:
    """What the ledger must have burned: the sum of each trade's burn, rounded down."""
    return sum(trade.quantity_minor * tape.market.rules.burn_bps // 10_000 for trade in tape.trades)
