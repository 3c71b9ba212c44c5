"""Telling whoever started this process how it is: the sd_notify protocol, nothing else.

The same datagrams serve our supervisor and systemd's Type=notify. Without a socket (a part
started by hand) every call does nothing. Source: sd_notify(3).
"""

import socket


class Notifier:
    """Sends to the unix datagram socket named by NOTIFY_SOCKET; "" means nobody listens."""

    def __init__(self, notify_socket: str) -> None:
        # "@name" is how the variable spells a name in Linux' abstract namespace.
        self._address = "\0" + notify_socket[1:] if notify_socket[:1] == "@" else notify_socket

    def ready(self, status: str = "") -> None:
        """Say that the service this process offers can be used from now on."""
        self._send("READY=1", status)

    def status(self, text: str) -> None:
        """One line for people, such as "1,204 of 12,477 trades"; replaces the line before."""
        self._send("", text)

    def stopping(self) -> None:
        self._send("STOPPING=1", "")

    def _send(self, assignment: str, status: str) -> None:
        lines = [assignment] if assignment else []
        if status:
            lines.append("STATUS=" + status.replace("\n", " "))
        if not self._address or not lines:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            try:
                sender.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                # The listener went away or is busy: news about a part must never stop the part.
                return
