"""Limits of every field of a command, and the checks that need no state."""

import msgspec

from schemas.commands import LedgerCommand
from schemas.rejections import Rejection, RejectionCode

ID_CHARS_MAX = 64
SCALE_MAX = 18
AMOUNT_MINOR_MAX = 10**36
WEIGHT_MAX = 1 << 63
SECOND_MAX = 1 << 40
BURN_BPS_MAX = 9_999
FEE_BPS_MAX = 9_999
BAND_BPS_MAX = 100_000
OPEN_ORDERS_MAX = 10_000

# Names of the text fields of each command, found once: every command passes here.
_TEXTS: dict[type[LedgerCommand], tuple[str, ...]] = {
    kind: tuple(
        field.name for field in msgspec.structs.fields(kind) if field.type in (str, str | None)
    )
    for kind in LedgerCommand.__args__
}


def check_ids(command: LedgerCommand) -> Rejection | None:
    """Every text field of a command is an id: 1 to ID_CHARS_MAX visible ASCII characters.

    Fields with a fixed choice of words were checked when the command was decoded.
    """
    for name in _TEXTS[type(command)]:
        text = getattr(command, name)
        if text is not None and not is_id(text):
            return Rejection(
                RejectionCode.INVALID_ID,
                {"field": name, "allowed": f"1 to {ID_CHARS_MAX} visible ASCII characters"},
            )
    return None


def is_id(text: str) -> bool:
    """True for 1 to ID_CHARS_MAX visible ASCII characters."""
    # A third of the time that a regular expression takes.
    return (
        0 < len(text) <= ID_CHARS_MAX and text.isascii() and text.isprintable() and " " not in text
    )


def check_amount(field: str, amount_minor: int, *, least: int = 1) -> Rejection | None:
    """An amount lies between `least` and AMOUNT_MINOR_MAX."""
    if least <= amount_minor <= AMOUNT_MINOR_MAX:
        return None
    return Rejection(RejectionCode.INVALID_AMOUNT, {"field": field, "least": least})
