"""The reference in Python: `python -m ops.bench.gateway_broadcast PORT`, a websockets server that
broadcasts one message a second to everyone, as its documentation shows. It reads no views, knows
no users and has no limits.
"""

import asyncio
import json
import sys
import time

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

BACKLOG = 4_096
# What a pulse of ours looks like when all of its fields are sent.
PULSE = {
    "index": "4304240283865562043733333333",
    "reward": "1.00000000",
    "weight_total": "17974123",
    "prices": {"DUR-CNY": "10.00120000"},
}


async def _main(port: int) -> None:
    connections: set[ServerConnection] = set()

    async def stay(connection: ServerConnection) -> None:
        connections.add(connection)
        try:
            await connection.wait_closed()
        finally:
            connections.discard(connection)

    async with serve(stay, "127.0.0.1", port, compression=None, backlog=BACKLOG):
        began, second = time.monotonic(), 0
        while True:
            second += 1
            await asyncio.sleep(max(began + second - time.monotonic(), 0))
            message = {"op": "pub", "ch": "pulse", "offset": second, "data": PULSE}
            # The clock that the load generator reads too.
            told = json.dumps(message | {"at": str(time.monotonic_ns())}, separators=(",", ":"))
            broadcast(connections, told)


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
