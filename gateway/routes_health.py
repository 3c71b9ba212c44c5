"""GET /healthz (this process answers), /readyz (what it depends on answers too) and /metrics."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

from gateway.access import PUBLIC
from gateway.endpoint import Call, Endpoint, NoBody, Parameters, routes
from gateway.errors import DatabaseUnavailable, ViewsUnavailable
from gateway.metrics import MEDIA_TYPE
from gateway.ports import Resources
from schemas.wire import Readiness

OK: Final = "ok"
SILENT: Final = "does not answer"
ANSWER_SECONDS_MAX: Final = 2.0

# Answers, or raises; a text is the state itself.
Probe = Callable[[], Awaitable[Any]]

# What a service can do nothing without.
NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "auth": ("accounts",),
    "contribution": ("redis", "engine"),
    "mining": ("redis", "engine"),
    "trading": ("redis", "engine"),
    "admin": ("desk",),
    "stream": ("redis", "engine"),
}
# What some of its endpoints need beside: it is named when it is down, and the others are served.
ALSO: Final[Mapping[str, tuple[str, ...]]] = {
    "auth": ("redis", "engine"),
    "contribution": ("log",),
    "mining": ("history", "log"),
    "trading": ("history", "log", "desk"),
    "admin": ("redis", "engine", "accounts"),
    "stream": (),
}


class ProbeParameters(Parameters, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Probes and scrapers may send what they like."""


async def get_health(call: Call[ProbeParameters, NoBody]) -> Response:
    return Response("ok\n", media_type="text/plain")


async def get_metrics(call: Call[ProbeParameters, NoBody]) -> Response:
    return Response(call.resources.metrics.exposed(), headers={"content-type": MEDIA_TYPE})


async def dependencies(found: Resources, service: str = "stream") -> Mapping[str, str]:
    """ "ok" or what is wrong, by dependency that the service has."""
    probes = _probes(found)
    names = [name for name in (*NEEDED[service], *ALSO[service]) if name in probes]
    states = await asyncio.gather(*(_state(probes[name]) for name in names))
    return dict(zip(names, states, strict=True))


def is_ready(service: str, parts: Mapping[str, str]) -> bool:
    return all(parts.get(name, OK) == OK for name in NEEDED[service])


def _probes(found: Resources) -> dict[str, Probe]:
    """What to ask, by dependency that is configured."""

    async def engine() -> str:
        return OK if found.engine.is_connected() else "not connected"

    probes: dict[str, Probe] = {"redis": found.views.ping, "engine": engine}
    history, log, accounts, desk = found.history, found.log, found.accounts, found.desk
    if history is not None:
        probes["history"] = history.position
    if log is not None:
        probes["log"] = lambda: log.of_order(0)
    if accounts is not None:
        probes["accounts"] = accounts.ping
    if desk is not None:
        probes["desk"] = desk.database.ping
    return probes


async def _state(probe: Probe) -> str:
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            found = await probe()
    except (ViewsUnavailable, DatabaseUnavailable, TimeoutError):
        return SILENT
    return found if isinstance(found, str) else OK


def endpoints(service: str) -> tuple[Endpoint, ...]:
    """Of every service; readiness is about what this one depends on."""

    async def get_readiness(call: Call[ProbeParameters, NoBody]) -> Response:
        """`ready`: the service can do what it is there for. `parts` names everything that some
        of its endpoints depend on, also what is down while others are served.
        """
        # Whoever asks often, or many at once, cost the databases no more than one does.
        parts = await call.resources.progress.shared(
            f"readiness of {service}", lambda: dependencies(call.resources, service)
        )
        ready = is_ready(service, parts)
        answer = Readiness(ready=ready, parts=dict(parts))
        return Response(
            msgspec.json.encode(answer), 200 if ready else 503, media_type="application/json"
        )

    return (
        Endpoint(
            method="GET",
            path="/healthz",
            handle=get_health,
            summary="This process answers",
            access=PUBLIC,
            parameters=ProbeParameters,
            media_type="text/plain",
        ),
        Endpoint(
            method="GET",
            path="/readyz",
            handle=get_readiness,
            summary="What the service depends on answers, too",
            access=PUBLIC,
            parameters=ProbeParameters,
            answer=Readiness,
            other_answers={503: Readiness},
        ),
        Endpoint(
            method="GET",
            path="/metrics",
            handle=get_metrics,
            summary="Figures for Prometheus",
            access=PUBLIC,
            parameters=ProbeParameters,
            media_type="text/plain",
        ),
    )


ROUTES = routes(endpoints("stream"))
