"""Why the gateway closes a stream: 4000-4499 reconnect with jittered back-off, 4500-4999 do not.

The reason sent with each is its name, well below the 123 bytes that RFC 6455 section 5.5 allows.
Beside these, the protocol layer sends 1002 (not RFC 6455), 1007 (text that is not UTF-8), 1009
(message too big), 1011 (a bug of ours) and 1012 (the process stops without a drain).
"""

import enum

RECONNECT_BELOW = 4500


class CloseCode(enum.IntEnum):
    GOING_AWAY = 4000
    SLOW_CONSUMER = 4001
    TOKEN_EXPIRED = 4002
    NO_PONG = 4003
    TOO_MANY_MESSAGES = 4500

    @property
    def reason(self) -> str:
        return self.name.lower()

    @property
    def should_reconnect(self) -> bool:
        return self < RECONNECT_BELOW
