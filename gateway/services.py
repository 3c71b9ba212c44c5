"""One Starlette app per service, and the table of which routes each serves."""

from collections.abc import Sequence
from typing import Final, Literal

from starlette.applications import Starlette
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from gateway import (
    routes_balances,
    routes_contributions,
    routes_health,
    routes_market_data,
    routes_mining,
    routes_orders,
)
from gateway.errors import exception_handlers
from gateway.ports import Resources
from gateway.tracing import Correlated

HttpService = Literal["contribution", "mining", "trading"]

_ROUTES: Final[dict[HttpService, Sequence[BaseRoute]]] = {
    "contribution": routes_contributions.ROUTES,
    "mining": routes_mining.ROUTES,
    "trading": (
        *routes_orders.ROUTES,
        *routes_balances.ROUTES,
        *routes_market_data.ROUTES,
    ),
}
HTTP_SERVICES: Final[tuple[HttpService, ...]] = tuple(_ROUTES)


def create_app(service: HttpService, resources: Resources) -> ASGIApp:
    app = Starlette(
        routes=[*routes_health.ROUTES, *_ROUTES[service]],
        exception_handlers=exception_handlers(),
    )
    app.state.resources = resources
    return Correlated(app)
