"""Which web pages may open a stream. Apps and servers send no Origin and are not asked for one.

A stream takes its token in a message or header, never from a cookie, so a foreign page could see
public channels only; it is kept out all the same, because visitors' browsers are not its to spend.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

ANY = "*"


def is_allowed(origin: str | None, *, host: str, allowed: Collection[str]) -> bool:
    """Whether a handshake with these headers may go on.

    origin: the header, None without one. host: the Host header. Pages of the same host, whatever
    their port, may; others must be in `allowed`, as scheme://host[:port], or ANY.
    Source: RFC 6455 section 10.2.
    """
    if origin is None or ANY in allowed or origin in allowed:
        return True
    page = _hostname(origin)
    return page is not None and page == _hostname(f"//{host}")


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # not an address, such as "http://["
        return None
