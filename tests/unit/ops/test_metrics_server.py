"""ops.metrics_server: what a scrape and a probe get, and that a taken port costs figures only."""

import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter

from ops.metrics_server import serve_metrics

HOST = "127.0.0.1"
DEADLINE_SECONDS = 5.0


def get(port: int, path: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{HOST}:{port}{path}", timeout=DEADLINE_SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_scrape_gets_the_registry_and_a_probe_a_word() -> None:
    registry = CollectorRegistry()
    Counter("cups", "Cups of tea", registry=registry).inc(3)
    with serve_metrics(registry, HOST, 0) as port:
        status, text = get(port, "/metrics")
        assert (status, "cups_total 3.0" in text) == (200, True)
        assert get(port, "/healthz") == (200, "ok\n")
        assert get(port, "/other")[0] == 404


def test_a_silent_client_does_not_stop_the_next_scrape() -> None:
    with (
        serve_metrics(CollectorRegistry(), HOST, 0) as port,
        socket.create_connection((HOST, port), timeout=DEADLINE_SECONDS),
    ):
        assert get(port, "/metrics")[0] == 200


def test_a_taken_port_is_logged_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with serve_metrics(CollectorRegistry(), HOST, port) as served:
            assert served == 0
    assert f"cannot listen on {HOST}:{port}" in caplog.text


def test_the_port_is_free_afterwards() -> None:
    with serve_metrics(CollectorRegistry(), HOST, 0) as port:
        pass
    with socket.create_server((HOST, port)):
        pass
