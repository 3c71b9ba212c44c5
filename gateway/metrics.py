"""Figures of the gateway for Prometheus, on a registry of its own, served at /metrics.

Every service of a process shares them. docs/operating/metrics.md says what each means.
"""

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from gateway.http_figures import HttpFigures
from gateway.stream.figures import StreamFigures

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
ANSWER_SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)


class GatewayMetrics:
    def __init__(self, is_connected: Callable[[], bool]) -> None:
        """is_connected: whether there is a connection to an engine; asked at each scrape."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._commands = Counter(
            "durian_gateway_commands",
            "Commands by type and outcome: accepted, repeated, the rejection's code, or how the"
            " engine was unavailable (not_sent, unknown)",
            ["command", "outcome"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "durian_gateway_command_seconds",
            "From handing a command to the engine's connection to its answer, re-sends included",
            buckets=ANSWER_SECONDS,
            registry=self._registry,
        )
        connected = Gauge(
            "durian_gateway_engine_connected",
            "1 while there is a connection to an engine",
            registry=self._registry,
        )
        connected.set_function(lambda: int(is_connected()))
        self.http = HttpFigures(self._registry)
        self.stream = StreamFigures(self._registry)

    def answered(self, *, command: str, outcome: str, seconds: float) -> None:
        self._commands.labels(command, outcome).inc()
        self._seconds.observe(seconds)

    def exposed(self) -> bytes:
        """The text format, MEDIA_TYPE."""
        return generate_latest(self._registry)
