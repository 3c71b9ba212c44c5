"""Serves one registry of figures to Prometheus: GET /metrics, and GET /healthz for probes.

On a thread of its own, so that the loop it reports on is not asked for time.
"""

import contextlib
import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

log = logging.getLogger("durian")

REQUEST_SECONDS_MAX = 5.0

StartResponse = Callable[..., Any]
Environ = dict[str, Any]


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS_MAX

    def log_message(self, format: str, *args: object) -> None:
        """Every scrape is the same line."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The standard library asks DNS for our name here, which can take as long as DNS likes.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("a scrape failed", exc_info=True)


class _ServerV6(_Server):
    address_family = socket.AF_INET6


@contextlib.contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> Iterator[int]:
    """Serves inside the block, which gets the port listened on (a free one for port 0).

    A port that is taken costs the figures, never the ledger: it is logged, and the block gets 0.
    """
    kind = _ServerV6 if ":" in host else _Server
    try:
        server = make_server(host, port, _app(registry), kind, _Handler)
    except OSError as exc:
        log.warning("no metrics: cannot listen on %s:%d: %s", host, port, exc)
        yield 0
        return
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _app(registry: CollectorRegistry) -> Callable[[Environ, StartResponse], Iterable[bytes]]:
    figures = make_wsgi_app(registry)

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answer: Iterable[bytes] = figures(environ, start_response)
            return answer
        is_probe = path == "/healthz"
        status = "200 OK" if is_probe else "404 Not Found"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [b"ok\n" if is_probe else b"/metrics or /healthz\n"]

    return app
