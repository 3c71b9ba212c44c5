"""uvicorn's WebSocket protocol with an end: a peer that does not read is aborted, not waited for.

transport.close() waits until everything buffered has been sent, which a stalled client can put off
until TCP gives up. This is also the place where sending will go below ASGI.
"""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

ABORT_AFTER_SECONDS = 5.0


class StreamProtocol(WebSocketsSansIOProtocol):
    async def run_asgi(self) -> None:
        await super().run_asgi()
        self._abort_later()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._abort_later()

    def _abort_later(self) -> None:
        self.loop.call_later(ABORT_AFTER_SECONDS, self.transport.abort)
