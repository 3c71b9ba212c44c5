"""A private Redis: append-only file, loopback, password; and the probe that says it answers.

Views can be folded again from the log, so that a second of lost writes (appendfsync everysec)
costs a re-read and never a wrong view: position and data are lost together.
"""

import shutil
from collections.abc import Awaitable
from functools import partial
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ops.datadir import DataDir, write_atomic
from ops.errors import ServerUnavailable
from ops.part import Part, Probe

DATABASES = 16
PROBE_TIMEOUT_S = 2.0


def url(port: int, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{port}"


def part(data_dir: DataDir, *, port: int, password: str, environment: dict[str, str]) -> Part:
    return Part(
        name="redis",
        argv=(find_binary(), str(data_dir.redis / "redis.conf")),
        environment=environment,
        prepare=partial(_write_configuration, data_dir, port, password),
        probe=probe(url(port, password)),
        working_dir=data_dir.root,
        addresses={"redis": {"url": url(port, password)}},
    )


def probe(redis_url: str) -> Probe:
    """A question that is answered True once Redis has loaded its data and takes commands."""

    async def answers() -> bool:
        client = Redis.from_url(
            redis_url, socket_timeout=PROBE_TIMEOUT_S, socket_connect_timeout=PROBE_TIMEOUT_S
        )
        try:
            return bool(await cast(Awaitable[bool], client.ping()))
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()

    return answers


def find_binary() -> str:
    """The path of redis-server; ServerUnavailable, with what to do, if there is none."""
    found = shutil.which("redis-server")
    if found is None:
        raise ServerUnavailable(
            "redis-server is not installed: `make setup` installs it, or set DURIAN_REDIS_URL"
        )
    return found


def _write_configuration(data_dir: DataDir, port: int, password: str) -> None:
    home = data_dir.redis
    home.mkdir(mode=0o700, exist_ok=True)
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{home}"',
        f"databases {DATABASES}",
        "daemonize no",
        'logfile ""',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        # Views must never be thrown out to make room: refuse the write, so that someone notices.
        "maxmemory-policy noeviction",
        # Keep the environment readable, by which the supervisor knows its own processes.
        "set-proc-title no",
    ]
    # Not in the arguments, where any user of the machine could read the password.
    write_atomic(home / "redis.conf", ("\n".join(lines) + "\n").encode(), mode=0o600)
