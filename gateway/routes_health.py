"""GET /healthz (this process answers), /readyz (what it depends on answers too) and /metrics."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import ViewsUnavailable
from gateway.metrics import MEDIA_TYPE
from gateway.ports import Resources
from gateway.requests import answer, resources
from schemas.wire import Readiness

OK = "ok"


async def get_health(request: Request) -> Response:
    return Response("ok\n", media_type="text/plain")


async def get_metrics(request: Request) -> Response:
    return Response(resources(request).metrics.exposed(), headers={"content-type": MEDIA_TYPE})


async def get_readiness(request: Request) -> Response:
    parts = await dependencies(resources(request))
    ready = all(state == OK for state in parts.values())
    return answer(Readiness(ready=ready, parts=dict(parts)), status=200 if ready else 503)


async def dependencies(found: Resources) -> Mapping[str, str]:
    """ "ok" or what is wrong, by dependency."""
    try:
        await found.views.ping()
        redis = OK
    except ViewsUnavailable:
        redis = "does not answer"
    return {"redis": redis, "engine": OK if found.engine.is_connected() else "not connected"}


ROUTES = (
    Route("/healthz", get_health, methods=["GET"]),
    Route("/readyz", get_readiness, methods=["GET"]),
    Route("/metrics", get_metrics, methods=["GET"]),
)
