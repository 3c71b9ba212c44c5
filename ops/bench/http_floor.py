"""What no service on this server can beat: bare routes that answer bytes made before, under the
same uvicorn, event loop and HTTP protocol as ours, without a check, a view or middleware.

`python -m ops.bench.http_floor PORT FILE`, FILE: a JSON object of path -> body.
"""

import base64
import sys
from pathlib import Path

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.http_protocol import HttpProtocol


def write_bodies(path: Path, bodies: dict[str, bytes]) -> None:
    """The FILE of a server."""
    path.write_bytes(msgspec.json.encode(bodies))


def read_bodies(path: Path) -> dict[str, bytes]:
    found = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    return {route: base64.b64decode(body) for route, body in found.items()}


def _route(path: str, body: bytes) -> Route:
    async def answer(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return Route(path, answer, methods=["GET"])


def main() -> None:
    """Until a signal."""
    port, bodies = int(sys.argv[1]), read_bodies(Path(sys.argv[2]))
    app = Starlette(routes=[_route(path, body) for path, body in bodies.items()])
    uvicorn.run(
        app,
        port=port,
        http=HttpProtocol,
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
    )


if __name__ == "__main__":
    main()
