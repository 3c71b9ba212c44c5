"""How the parts of a stack are: its state file, its servers asked, its readers' figures scraped.

gateway.ports.Parts. What does not answer is shown as such; nothing here raises for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import httpx
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from ops.config import Config, redact_url
from ops.datadir import DataDir
from ops.servers import kafka, redis
from ops.status import PartStatus, running_state
from schemas.codecs import decode_event
from schemas.wire_administration import Dependency, Lag, Lags, PartHealth

ANSWER_SECONDS_MAX: Final = 2.0
NS_PER_MS: Final = 1_000_000
PROJECTIONS: Final = ("market", "mining", "accounts", "history")
# An address is shown without its password; these have none and are of interest.
_SHOWN_ADDRESSES: Final = ("url", "bootstrap")

_HEAD = "SELECT epoch, position FROM ledger_events_head"
_EVENTS = "SELECT notification_id, state FROM ledger_events WHERE notification_id = ANY(%s)"

Ask = Callable[[], Awaitable[bool]]


class StackParts:
    """Of the stack whose data directory, servers and ports a Config names."""

    def __init__(self, config: Config) -> None:
        self._config = config

    async def listed(self) -> tuple[PartHealth, ...]:
        status = running_state(DataDir(self._config.data_dir.absolute()))
        return () if status is None else tuple(_part(part) for part in status.parts)

    async def servers(self) -> tuple[Dependency, ...]:
        config = self._config
        asks: dict[str, Ask] = {}
        for name, url in (
            ("postgres", config.postgres_url),
            ("history", config.history_url),
            ("accounts", config.auth_url),
            ("desk", config.desk_url),
        ):
            if url:
                asks[name] = _database(url)
        if config.redis_url:
            asks["redis"] = redis.probe(config.redis_url)
        if config.kafka_url:
            asks["kafka"] = kafka.probe(config.kafka_url)
        return tuple(await asyncio.gather(*(_asked(name, ask) for name, ask in asks.items())))

    async def lags(self) -> Lags:
        """Of Kafka's copy and of every projection, against the log's own head."""
        relay, *projections = await asyncio.gather(
            self._figures("relay_metrics"),
            *(self._figures(f"{name}_metrics") for name in PROJECTIONS),
        )
        reached = {"relay": _least(relay, "durian_relay_position")}
        for name, figures in zip(PROJECTIONS, projections, strict=True):
            reached[name] = _least(figures, "durian_projection_position")
        positions = sorted({position for position in reached.values() if position})
        epoch, head, at_ns = await self._log(positions)
        items = tuple(
            _lag(name, position, head=head, at_ns=at_ns) for name, position in reached.items()
        )
        return Lags(head=head, epoch=epoch, items=items)

    async def _figures(self, port: str) -> Mapping[str, list[int]]:
        url = f"http://{self._config.host}:{getattr(self._config.ports, port)}/metrics"
        try:
            async with httpx.AsyncClient(timeout=ANSWER_SECONDS_MAX, trust_env=False) as client:
                answer = await client.get(url)
        except httpx.HTTPError:
            return {}
        found: dict[str, list[int]] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(int(sample.value))
        return found

    async def _log(self, positions: list[int]) -> tuple[int | None, int | None, dict[int, int]]:
        if not self._config.postgres_url:
            return None, None, {}
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await _read_log(self._config.postgres_url, positions)
        except (psycopg.Error, TimeoutError):
            return None, None, {}


def _part(part: PartStatus) -> PartHealth:
    addresses = tuple(
        redact_url(text)
        for address in part.addresses.values()
        for name, text in address.items()
        if name in _SHOWN_ADDRESSES
    )
    return PartHealth(
        name=part.name,
        state=part.state,
        is_ready=part.ready,
        since_time=part.since_ms,
        restarts=part.restarts,
        text=part.text,
        addresses=addresses,
    )


def _database(url: str) -> Ask:
    async def ask() -> bool:
        try:
            connection = await psycopg.AsyncConnection.connect(
                url, connect_timeout=int(ANSWER_SECONDS_MAX)
            )
            async with connection:
                await connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    return ask


async def _asked(name: str, ask: Ask) -> Dependency:
    began, answers, text = time.perf_counter(), False, "does not answer"
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            answers = await ask()
    except TimeoutError:
        text = f"does not answer within {ANSWER_SECONDS_MAX:.0f} s"
    milliseconds = int((time.perf_counter() - began) * 1_000)
    return Dependency(
        name=name, answers=answers, milliseconds=milliseconds, text="" if answers else text
    )


async def _read_log(url: str, positions: list[int]) -> tuple[int, int, dict[int, int]]:
    connection = await psycopg.AsyncConnection.connect(url, connect_timeout=int(ANSWER_SECONDS_MAX))
    async with connection:
        row: Any = await (await connection.execute(_HEAD)).fetchone()
        epoch, head = row
        wanted = [*positions, head]
        rows = await (await connection.execute(_EVENTS, (wanted,))).fetchall()
    return epoch, head, {position: decode_event(bytes(state)).at_ns for position, state in rows}


def _least(figures: Mapping[str, list[int]], name: str) -> int | None:
    """Of several partitions the one that is furthest behind counts."""
    return min(figures[name]) if figures.get(name) else None


def _lag(name: str, position: int | None, *, head: int | None, at_ns: Mapping[int, int]) -> Lag:
    if position is None or head is None:
        return Lag(name=name, position=position, positions=None, milliseconds=None)
    # The views may have gone on since the log was asked.
    behind = max(0, head - position)
    milliseconds = 0 if behind == 0 else None
    if behind and position in at_ns and head in at_ns:
        milliseconds = (at_ns[head] - at_ns[position]) // NS_PER_MS
    return Lag(name=name, position=position, positions=behind, milliseconds=milliseconds)
