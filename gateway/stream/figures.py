"""What the stream counts, as plain integers that cost nothing to add to, and as metrics when asked.

docs/operating/metrics.md says what each means.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

PROTOCOL_CODES = frozenset((*range(1000, 1004), *range(1005, 1013)))
OTHER = "other"
SWEEP_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)


class StreamFigures(Collector):
    """Of one process.

    connections, subscriptions, snapshots, recovered: asked at each scrape, once somebody set them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.messages_in = 0
        self.writes = 0
        self.bytes_out = 0
        self.skipped = 0
        self.accepted = 0
        self.refused: Counter[str] = Counter()
        self.closes: Counter[str] = Counter()
        self.is_stale = False
        self.connections: Callable[[], int] = lambda: 0
        self.subscriptions: Callable[[], Mapping[Any, int]] = dict
        self.snapshots: Callable[[], int] = lambda: 0
        self.recovered: Callable[[], int] = lambda: 0
        self._sweeps = Histogram(
            "durian_stream_sweep_seconds",
            "From the first connection to the last of one round of sending",
            buckets=SWEEP_SECONDS,
            registry=registry,
        )
        registry.register(self)

    def sent(self, size: int) -> None:
        self.writes += 1
        self.bytes_out += size

    def closed(self, code: int, *, by_gateway: int | None) -> None:
        """code: of whoever was first; by_gateway: ours, None if we had no reason of our own."""
        if by_gateway is not None:
            self.closes[str(int(by_gateway))] += 1
        else:
            # Peers may choose any code: only those of the protocol are worth a series each.
            self.closes[str(code) if code in PROTOCOL_CODES else OTHER] += 1

    def swept(self, seconds: float) -> None:
        self._sweeps.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "durian_stream_connections", "Open connections", value=self.connections()
        )
        yield GaugeMetricFamily(
            "durian_stream_stale", "1 while the views cannot be read", value=int(self.is_stale)
        )
        subscriptions = GaugeMetricFamily(
            "durian_stream_subscriptions", "Subscriptions by kind of channel", labels=["kind"]
        )
        for kind, count in sorted(self.subscriptions().items()):
            subscriptions.add_metric([kind], count)
        yield subscriptions
        for name, text, count in self._counts():
            yield CounterMetricFamily(f"durian_stream_{name}", text, value=count)
        yield _labelled(
            "refused", "Handshakes refused, by code", "code", sorted(self.refused.items())
        )
        closes = sorted(self.closes.items())
        yield _labelled("closed", "Connections closed, by close code", "code", closes)

    def _counts(self) -> list[tuple[str, str, int]]:
        return [
            ("accepted", "Connections accepted", self.accepted),
            ("messages_in", "Messages of clients", self.messages_in),
            ("writes", "Writes to connections; one carries all that was pending", self.writes),
            ("bytes_out", "Bytes of WebSocket frames sent", self.bytes_out),
            ("skipped", "Values not sent to a lagging client for a newer one", self.skipped),
            ("snapshots", "Snapshots sent", self.snapshots()),
            ("recovered", "Subscriptions resumed without a snapshot", self.recovered()),
        ]


def _labelled(
    name: str, text: str, label: str, counted: list[tuple[str, int]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"durian_stream_{name}", text, labels=[label])
    for value, count in counted:
        family.add_metric([value], count)
    return family
