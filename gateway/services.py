"""One Starlette app per service, and the table of which endpoints each serves."""

from types import ModuleType
from typing import Final, Literal

from starlette.applications import Starlette
from starlette.types import ASGIApp

from gateway import (
    routes_balances,
    routes_charts,
    routes_contributions,
    routes_health,
    routes_market_data,
    routes_mining,
    routes_order_reads,
    routes_orders,
    routes_withdrawals,
)
from gateway.administration import (
    routes_approvals,
    routes_jobs,
    routes_markets,
    routes_parts,
    routes_records,
    routes_supply,
    routes_users,
)
from gateway.endpoint import Endpoint, routes
from gateway.errors import exception_handlers
from gateway.identity import routes as routes_identity
from gateway.identity import routes_credentials
from gateway.openapi import routes as routes_openapi
from gateway.ports import Resources
from gateway.surrounding import Around, surrounded

HttpService = Literal["auth", "contribution", "mining", "trading", "admin"]

_MODULES: Final[dict[HttpService, tuple[ModuleType, ...]]] = {
    "auth": (routes_identity, routes_credentials),
    "contribution": (routes_contributions,),
    "mining": (routes_mining,),
    "trading": (
        routes_orders,
        routes_order_reads,
        routes_balances,
        routes_market_data,
        routes_charts,
        routes_withdrawals,
    ),
    "admin": (
        routes_users,
        routes_supply,
        routes_markets,
        routes_approvals,
        routes_records,
        routes_parts,
        routes_jobs,
    ),
}
HTTP_SERVICES: Final[tuple[HttpService, ...]] = tuple(_MODULES)


def _endpoints(service: HttpService) -> tuple[Endpoint, ...]:
    return (
        *(one for module in _MODULES[service] for one in module.ENDPOINTS),
        *routes_health.endpoints(service),
        *routes_openapi.endpoints(service, lambda: ENDPOINTS[service]),
    )


ENDPOINTS: Final[dict[HttpService, tuple[Endpoint, ...]]] = {
    service: _endpoints(service) for service in _MODULES
}


def create_app(service: HttpService, resources: Resources, around: Around | None = None) -> ASGIApp:
    app = Starlette(routes=routes(ENDPOINTS[service]), exception_handlers=exception_handlers())
    app.state.resources = resources
    return surrounded(app, service, resources, around or Around())
