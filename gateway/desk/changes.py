"""What the administration can ask for: commands of the ledger, and changes of accounts.

All are kept as JSON with their intent or approval. Each can be carried out again with the same
result: a command of the ledger under its key, a change of an account because it says what is to be.
"""

from typing import Any, Final, Literal

import msgspec

from gateway.access import Role
from schemas.commands import (
    ConfigureMarket,
    ConfigureReserveBurn,
    FreezeAccount,
    HaltMarket,
    OpenMarket,
    ResumeMarket,
    ScheduleEmission,
    UnfreezeAccount,
)


class AccountChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every change of an account names."""

    user_id: str


class SetRole(AccountChange, frozen=True, kw_only=True, tag="set_role"):
    role: Role


class DisableUser(AccountChange, frozen=True, kw_only=True, tag="disable_user"):
    pass


class EnableUser(AccountChange, frozen=True, kw_only=True, tag="enable_user"):
    pass


class EraseUser(AccountChange, frozen=True, kw_only=True, tag="erase_user"):
    pass


class SetBurn(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="set_burn"):
    """Only proposed: approved, it is ConfigureMarket with the market's rules of that moment."""

    market_id: str
    burn_bps: int


MarketCommand = OpenMarket | ConfigureMarket | HaltMarket | ResumeMarket
AdminCommand = (
    MarketCommand | ScheduleEmission | ConfigureReserveBurn | FreezeAccount | UnfreezeAccount
)
AnyAccountChange = SetRole | DisableUser | EnableUser | EraseUser
Change = AdminCommand | AnyAccountChange
Proposal = ScheduleEmission | ConfigureReserveBurn | OpenMarket | SetBurn | SetRole | EnableUser
ProposalKind = Literal["emission", "reserve_burn", "market", "burn", "admin"]

_EXACT_BELOW: Final = 1 << 53

encode = msgspec.json.Encoder(order="sorted").encode
decode_change = msgspec.json.Decoder(Change).decode
decode_proposal = msgspec.json.Decoder(Proposal).decode
_KINDS: dict[type, ProposalKind] = {
    ScheduleEmission: "emission",
    ConfigureReserveBurn: "reserve_burn",
    OpenMarket: "market",
    SetBurn: "burn",
    SetRole: "admin",
    EnableUser: "admin",
}


def kind_of(proposal: Proposal) -> ProposalKind:
    return _KINDS[type(proposal)]


def action_of(change: Change | Proposal) -> str:
    """Its name in the record."""
    return str(change.__struct_config__.tag)


def target_of(change: Change | Proposal) -> str:
    """What it changes, such as user:alice; one target's changes exclude each other."""
    match change:
        case ScheduleEmission():
            return "emission"
        case ConfigureReserveBurn():
            return "reserve_burn"
        case OpenMarket() | ConfigureMarket() | HaltMarket() | ResumeMarket() | SetBurn():
            return f"market:{change.market_id}"
        case _:
            return f"user:{change.user_id}"


def details_of(change: Change | Proposal) -> dict[str, str | int | None]:
    """Its fields for the record, flat; amounts in minor units, as text beyond 2**53."""
    plain: dict[str, Any] = msgspec.to_builtins(change)
    plain |= plain.pop("rules", {})
    del plain["type"]
    return {
        name: str(value) if isinstance(value, int) and value >= _EXACT_BELOW else value
        for name, value in plain.items()
    }
