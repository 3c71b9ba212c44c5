"""What the HTTP services count, by route: few labels, never a user, a path or a query.

docs/operating/metrics.md says what each means.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
# Of requests that no route matched; their paths are anybody's invention.
NO_ROUTE: Final = "none"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD: Final = "other"


class HttpFigures:
    """Of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "durian_http_requests",
            "Requests answered, by service, method, route and status",
            ["service", "method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "durian_http_request_seconds",
            "From a request's head to the end of its answer, by service, method and route",
            ["service", "method", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "durian_http_in_flight",
            "Requests that are being answered",
            ["service"],
            registry=registry,
        )
        self._limited = Counter(
            "durian_http_limited",
            "Requests refused because their caller made too many, by kind of caller, or because the"
            " service has too many in flight",
            ["service", "caller"],
            registry=registry,
        )
        # Looking up a figure by its labels costs more than counting.
        self._counters: dict[tuple[str, str, str, int], Counter] = {}
        self._histograms: dict[tuple[str, str, str], Histogram] = {}

    def in_flight(self, service: str) -> Gauge:
        return self._in_flight.labels(service)

    def limited(self, service: str, caller: str) -> None:
        self._limited.labels(service, caller).inc()

    def answered(
        self, *, service: str, method: str, route: str, status: int, seconds: float
    ) -> None:
        """route: a template, "" if none matched."""
        method = method if method in METHODS else OTHER_METHOD
        route = route or NO_ROUTE
        counted = service, method, route, status
        counter = self._counters.get(counted)
        if counter is None:
            counter = self._counters[counted] = self._requests.labels(*map(str, counted))
        counter.inc()
        timed = counted[:3]
        histogram = self._histograms.get(timed)
        if histogram is None:
            histogram = self._histograms[timed] = self._seconds.labels(*timed)
        histogram.observe(seconds)
