"""Decimal strings in whole units <-> integer minor units, exact, without floats."""

import re

AMOUNT_DIGITS_MAX = 60
_AMOUNT = re.compile(r"(\d+)(?:\.(\d+))?")


class AmountError(ValueError):
    """The text is not an amount this scale can express; str(error) says what is allowed."""


def parse_amount(text: str, scale: int) -> int:
    """Minor units of a non-negative decimal string such as "12.5".

    Raises AmountError for signs, exponents, blanks, or more than `scale` significant decimals.
    """
    is_readable = len(text) <= AMOUNT_DIGITS_MAX and text.isascii()
    match = _AMOUNT.fullmatch(text) if is_readable else None
    if match is None:
        raise AmountError(f"{text[:80]!r} is not a decimal amount such as 12.5")
    whole, decimals = match.group(1), (match.group(2) or "").rstrip("0")
    if len(decimals) > scale:
        raise AmountError(f"{text!r} has more than {scale} decimals")
    return int(whole + decimals.ljust(scale, "0"))


def format_amount(amount_minor: int, scale: int) -> str:
    """The decimal string of minor units, always with `scale` decimals: 125 at scale 2 is "1.25"."""
    if amount_minor < 0:
        return f"-{format_amount(-amount_minor, scale)}"
    digits = str(amount_minor)
    if scale == 0:
        return digits
    # Seven amounts in a candle, eight candles in a second: the common case is kept short.
    if len(digits) > scale:
        return f"{digits[:-scale]}.{digits[-scale:]}"
    return f"0.{digits.zfill(scale)}"
