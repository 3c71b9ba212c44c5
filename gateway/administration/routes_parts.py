"""How every part is, and how far behind the log each reader of it is."""

from typing import Final

from gateway.administration.acting import LOOKS
from gateway.endpoint import Call, Endpoint, NoBody, Parameters
from gateway.errors import Refusal
from gateway.ports import Parts, Resources
from schemas.wire import WireCode
from schemas.wire_administration import Health, Lags


async def get_health(call: Call[Parameters, NoBody]) -> Health:
    """Every part as its supervisor sees it, every server asked just now, and the lags."""
    parts = _parts_of(call.resources)
    listed, servers, lags = await parts.listed(), await parts.servers(), await parts.lags()
    is_well = all(part.is_ready for part in listed) and all(one.answers for one in servers)
    return Health(is_well=is_well, parts=listed, dependencies=servers, lags=lags)


async def get_lags(call: Call[Parameters, NoBody]) -> Lags:
    """How far each reader of the log is behind, in events and in milliseconds."""
    return await _parts_of(call.resources).lags()


def _parts_of(resources: Resources) -> Parts:
    if resources.parts is None:
        raise Refusal(WireCode.NOT_FOUND, "This service was started without a view of the parts.")
    return resources.parts


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/v1/admin/health",
        handle=get_health,
        summary="Every part and server",
        access=LOOKS,
        answer=Health,
        refuses=(WireCode.NOT_FOUND,),
    ),
    Endpoint(
        method="GET",
        path="/v1/admin/lag",
        handle=get_lags,
        summary="How far readers of the log are behind",
        access=LOOKS,
        answer=Lags,
        refuses=(WireCode.NOT_FOUND,),
    ),
)
