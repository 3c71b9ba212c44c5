"""How a refused command's details look to clients: ids under their wire names, amounts as decimals.

The ledger's details count minor units (`needed_minor`); a client reads `"needed": "12.50"` instead,
wherever the asset, and so the scale, is known from the command or from the details.
"""

from collections.abc import Mapping

from schemas.amounts import format_amount
from schemas.rejections import Rejection

Details = dict[str, str | int]

_MINOR = "_minor"
_RENAMED = {"market_id": "market", "asset_id": "asset"}


def wire_details(
    rejection: Rejection,
    *,
    scales: Mapping[str, int] | None = None,
    asset_scales: Mapping[str, int] | None = None,
) -> Details:
    """scales: by detail name, such as {"tick_minor": 8}. asset_scales: by asset_id.

    A detail whose scale is unknown keeps its name and its minor units.
    """
    by_name, by_asset = scales or {}, asset_scales or {}
    named_scale = by_asset.get(str(rejection.details.get("asset_id")))
    details: Details = {}
    for name, value in rejection.details.items():
        scale = by_name.get(name, named_scale)
        if name.endswith(_MINOR) and isinstance(value, int) and scale is not None:
            details[name.removesuffix(_MINOR)] = format_amount(value, scale)
        else:
            details[_RENAMED.get(name, name)] = value
    return details
