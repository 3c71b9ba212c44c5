"""The order mix as frames of the command connection, encoded before any clock runs.

Each user sends on one lane (connection), so that a user's commands stay in order. A cancel names an
order by the engine's number for it, which depends on how lanes interleave: its frame leaves room
for that number, and the answer to the placement fills it in.
"""

from zlib import crc32

import msgspec

from ops.bench import order_mix
from ops.bench.order_mix import SHARES, OrderDesk
from schemas.commands import CancelOrder, DepositFunds, LedgerCommand, PlaceOrder, ReplaceOrder
from schemas.events import OrderPlaced
from schemas.frames import Request, pack_frame

SEED = 7
# Digits an order's number may have; JSON allows blanks before a number, but no zeros.
NUMBER_DIGITS = 12
_NUMBER_ROOM = 10**NUMBER_DIGITS - 1
_NUMBER_FIELD = b'"order_id":'
_encode = msgspec.json.Encoder().encode


class Plan:
    """What one lane will send. Request ids are indices, counted from 0.

    starts: where each frame begins in data; the last entry is the end. uses: (index of a
    placement, where in data the number of its order belongs), in the order of data.
    """

    __slots__ = ("data", "starts", "uses")

    def __init__(self) -> None:
        self.data = bytearray()
        self.starts = [0]
        self.uses: list[tuple[int, int]] = []

    @property
    def count(self) -> int:
        return len(self.starts) - 1


class FrameSource:
    """Draws the mix against a ledger of its own and spreads it over lanes.

    Every command carries an idempotency key, as those of the gateway do.
    """

    def __init__(self, *, lanes: int, users: int) -> None:
        self.plans = [Plan() for _ in range(lanes)]
        self._users = users
        self._desk = OrderDesk(order_mix.open_ledger(), users, SEED)
        self._placed_by: dict[int, tuple[Plan, int]] = {}
        self._keys = 0

    def fund(self) -> None:
        """A deposit of each asset for each user."""
        for command in order_mix.funding(self._users):
            self._add(command)

    def rest(self, orders: int) -> None:
        """Passive orders until so many are open."""
        while len(self._desk.state.orders) < orders:
            self._add(self._desk.draw("limit gtc, passive"))

    def mix(self, count: int) -> None:
        """So many more commands in the shares of the mix."""
        for kind in self._desk.random.choices(list(SHARES), list(SHARES.values()), k=count):
            self._add(self._desk.draw(kind))

    def _add(self, command: LedgerCommand) -> None:
        assert isinstance(command, DepositFunds | PlaceOrder | ReplaceOrder | CancelOrder)
        plan = self.plans[crc32(command.user_id.encode()) % len(self.plans)]
        index, start = plan.count, plan.starts[-1]
        plan.data += self._frame(plan, command, index=index, start=start)
        plan.starts.append(len(plan.data))
        for event in self._desk.send(command):
            if isinstance(event, OrderPlaced):
                self._placed_by[event.order_id] = (plan, index)

    def _frame(self, plan: Plan, command: LedgerCommand, *, index: int, start: int) -> bytes:
        self._keys += 1
        number = None
        if isinstance(command, CancelOrder | ReplaceOrder):
            number = command.order_id
            command = msgspec.structs.replace(command, order_id=_NUMBER_ROOM)
        request = Request(id=index, command=command, key=f"bench-{self._keys:030}")
        frame = bytearray(pack_frame(_encode(request)))
        if number is not None:
            at = frame.index(_NUMBER_FIELD) + len(_NUMBER_FIELD)
            write_number(frame, at, number)
            placed_on, placed_at = self._placed_by[number]
            assert placed_on is plan, "a user's orders travel on one lane"
            plan.uses.append((placed_at, start + at))
        return bytes(frame)


def write_number(data: bytearray, at: int, number: int) -> None:
    """Put an order's number into the room left for it."""
    data[at : at + NUMBER_DIGITS] = b"%*d" % (NUMBER_DIGITS, number)
