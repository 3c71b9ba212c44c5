"""The WebSocket stream: from the feeds in Redis to frames on connections, below ASGI."""
