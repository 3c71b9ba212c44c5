"""What ends a client of the stream for good; whatever else goes wrong it survives by itself.

StreamFault
├── StreamRefused   the gateway says no: a token, a channel, or a close code that means stay away
└── StreamBroken    what arrives cannot be what the protocol promises
"""

from ops.errors import OpsError


class StreamFault(OpsError):
    pass


class StreamRefused(StreamFault):
    """code: of the error message, or the close code or HTTP status as text. channel: "" if none."""

    def __init__(self, code: str, reason: str, channel: str = "") -> None:
        super().__init__(f"the stream refuses {channel or 'us'}: {reason or code}")
        self.code = code
        self.reason = reason
        self.channel = channel


class StreamBroken(StreamFault):
    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(f"the stream is broken: {channel}: {reason}")
        self.channel = channel
        self.reason = reason
