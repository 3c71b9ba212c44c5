"""What the gateway needs from outside, as protocols and one struct that ops fills in."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from schemas.commands import LedgerCommand
from schemas.deep_history import MiningRecord
from schemas.frames import Accepted, Refused

if TYPE_CHECKING:
    from gateway.auth import TokenVerifier
    from gateway.catalogue import Catalogue
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


class DeepHistory(Protocol):
    """What is too old or too much for the views in Redis."""

    async def mining_records(
        self, user_id: str, *, from_second: int, to_second: int, limit: int
    ) -> Sequence[MiningRecord]:
        """The minutes that open in a period (`to_second` excluded) and are over, oldest first.

        Raises ViewsUnavailable.
        """
        ...


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What the routes of every service share. now_second: wall clock, for the expiry of tokens.

    history: None where none is configured.
    """

    views: "Views"
    catalogue: "Catalogue"
    engine: CommandPort
    tokens: "TokenVerifier"
    metrics: "GatewayMetrics"
    now_second: Callable[[], int]
    history: DeepHistory | None = None
