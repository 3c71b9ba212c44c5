"""Constrained values that requests hold; the OpenAPI documents say of them what is checked here."""

from typing import Annotated, Final

import msgspec

ID_CHARS_MAX: Final = 64
_ID: Final = rf"^[!-~]{{1,{ID_CHARS_MAX}}}$"

Amount = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[0-9]+(\.[0-9]+)?$",
        max_length=60,
        description="A decimal string in whole units, with no more decimals than the asset has.",
        examples=["12.5"],
    ),
]
AssetId = Annotated[str, msgspec.Meta(pattern=_ID, examples=["CNY"])]
MarketId = Annotated[str, msgspec.Meta(pattern=_ID, examples=["DUR-CNY"])]
UserRef = Annotated[
    str,
    msgspec.Meta(
        pattern=_ID, description="A user's opaque id; one's own where it may be left out."
    ),
]
OwnId = Annotated[
    str,
    msgspec.Meta(
        pattern=_ID,
        description="The client's own id: 1 to 64 visible ASCII characters, booked at most once.",
    ),
]
