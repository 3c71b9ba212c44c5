"""What the gateway needs from outside, as protocols and one struct that ops fills in."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway.contributions_census import Census
from gateway.progress import Progress
from schemas.commands import LedgerCommand
from schemas.deep_history import AllocationSpan, BurnRow, MiningRecord, Transaction
from schemas.events import LedgerEvent, OrderPlaced
from schemas.frames import Accepted, Refused
from schemas.wire_administration import Dependency, Lags, PartHealth

if TYPE_CHECKING:
    from gateway.auth import TokenVerifier
    from gateway.catalogue import Catalogue
    from gateway.desk.desk import Desk
    from gateway.identity.accounts import Accounts
    from gateway.identity.sign_in import SignIn
    from gateway.metrics import GatewayMetrics
    from gateway.views import Views


class CommandPort(Protocol):
    """The ledger's one writer."""

    async def submit(
        self, command: LedgerCommand, *, key: str = "", trace: str = ""
    ) -> Accepted | Refused:
        """Have one command decided; an Accepted answer is on disk.

        key: the first answer to the same key and command is given again, nothing happens twice.
        trace: correlation id for the engine's log.
        Raises EngineUnavailable if no answer came; its outcome says whether it may have happened.
        """
        ...

    def is_connected(self) -> bool: ...


class TransactionPage(msgspec.Struct, frozen=True):
    """before: where the next page begins, None at the end."""

    rows: Sequence[Transaction]
    before: int | None


class DeepHistory(Protocol):
    """What is too old or too much for the views in Redis."""

    async def mining_records(
        self, user_id: str, *, from_second: int, to_second: int, limit: int
    ) -> Sequence[MiningRecord]:
        """The minutes that open in a period (`to_second` excluded) and are over, oldest first.

        Raises ViewsUnavailable.
        """
        ...

    async def allocation_span(
        self, user_id: str, *, from_second: int, to_second: int
    ) -> AllocationSpan:
        """For a period that is not empty (`to_second` excluded). Raises ViewsUnavailable."""
        ...

    async def position(self) -> int:
        """Of the last event in it. Raises ViewsUnavailable."""
        ...

    async def transactions(
        self,
        user_id: str,
        *,
        before: int,
        limit: int,
        asset_id: str | None = None,
        kind: str | None = None,
    ) -> TransactionPage:
        """A user's rows before a position, newest first: `limit` or one more, because the rows of
        an event stay together. With asset_id or kind a bounded part of them is looked through.
        Raises ViewsUnavailable.
        """
        ...

    async def reserve_burns(
        self, asset_id: str, *, from_second: int | None, to_second: int, limit: int
    ) -> Sequence[BurnRow]:
        """Minutes that are over, oldest first, from a second on or the newest. Raises
        ViewsUnavailable.
        """
        ...


class LoggedEvents(msgspec.Struct, frozen=True):
    """Events with their positions, oldest first. after: where to go on, None at the end."""

    events: Sequence[tuple[int, LedgerEvent]]
    after: int | None


class LedgerLog(Protocol):
    """Indexed reads of the log itself; each raises DatabaseUnavailable(history_unavailable)."""

    async def of_user(self, user_id: str, *, after: int, limit: int) -> LoggedEvents:
        """What is about one user, trades included, oldest first."""
        ...

    async def of_user_before(self, user_id: str, *, before: int, limit: int) -> LoggedEvents:
        """The newest before a position, newest first; `after` is what to pass as `before` next."""
        ...

    async def of_market_before(self, market_id: str, *, before: int, limit: int) -> LoggedEvents:
        """Trades, burns and changes of a market, as of_user_before."""
        ...

    async def of_order(self, order_id: int) -> LoggedEvents:
        """Placed, reduced, traded, cancelled; empty if there is no such order."""
        ...

    async def placement(self, order_id: int) -> OrderPlaced | None: ...

    async def allocations(self, *, first: int, last: int) -> LoggedEvents:
        """The mining_allocated events at positions first to last."""
        ...


class Parts(Protocol):
    """How the parts of the stack are; never raises for what does not answer."""

    async def listed(self) -> tuple[PartHealth, ...]:
        """As their supervisor sees them; empty without one of ours."""
        ...

    async def servers(self) -> tuple[Dependency, ...]: ...

    async def lags(self) -> Lags: ...


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What the routes of every service share. now_second: wall clock, for the expiry of tokens.

    history, log: None where none is configured. accounts: of auth and administration only. desk:
    of trading (withdrawals) and administration. sign_in: of auth only. parts: of administration.
    """

    views: "Views"
    catalogue: "Catalogue"
    engine: CommandPort
    tokens: "TokenVerifier"
    metrics: "GatewayMetrics"
    now_second: Callable[[], int]
    history: DeepHistory | None = None
    log: LedgerLog | None = None
    accounts: "Accounts | None" = None
    sign_in: "SignIn | None" = None
    desk: "Desk | None" = None
    parts: Parts | None = None
    progress: Progress = msgspec.field(default_factory=Progress)
    census: Census = msgspec.field(default_factory=Census)
