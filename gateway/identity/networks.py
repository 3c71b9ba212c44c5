"""Where a request comes from, as far as we keep it: a device's words and a part of its address."""

import ipaddress
from typing import Any, Final

from gateway.endpoint import Call

DEVICE_CHARS_MAX: Final = 120
_V4_PREFIX: Final = 24
_V6_PREFIX: Final = 48


class Origin:
    """device: the user agent, shortened. network: a prefix, many people's. client: of limits."""

    __slots__ = ("client", "device", "network")

    def __init__(self, *, address: str, device: str) -> None:
        self.device = "".join(one for one in device if one.isprintable())[:DEVICE_CHARS_MAX]
        self.network = _prefix(address, _V4_PREFIX, _V6_PREFIX)
        self.client = _prefix(address, 32, 64)


def origin(call: Call[Any, Any]) -> Origin:
    """Behind nginx the address is what it forwards; the server takes care of that."""
    client = call.request.client
    return Origin(
        address=client.host if client is not None else "",
        device=call.request.headers.get("user-agent", ""),
    )


def _prefix(address: str, v4: int, v6: int) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    length = v4 if isinstance(found, ipaddress.IPv4Address) else v6
    return str(ipaddress.ip_network((found, length), strict=False))
