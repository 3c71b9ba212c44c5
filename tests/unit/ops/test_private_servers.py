"""ops.servers with the real programs: they start, keep what they were told, and are crash-safe."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from redis.asyncio import Redis

from ops.config import load_config
from ops.datadir import DataDir, load_secrets, open_data_dir
from ops.errors import ServerUnavailable
from ops.part import Part
from ops.servers import kafka, postgres, redis
from ops.status import PartStatus
from ops.supervisor import Supervisor

pytestmark = pytest.mark.services
DEADLINE_S = 60.0


def _free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": "/"}


@contextlib.asynccontextmanager
async def _running(data_dir: DataDir, part: Part) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor([part], data_dir)
    task = asyncio.create_task(supervisor.run())
    try:
        assert await supervisor.wait_ready(DEADLINE_S), supervisor.status()
        yield supervisor
    finally:
        supervisor.request_stop()
        await asyncio.wait_for(task, DEADLINE_S)


async def _kill_and_wait(supervisor: Supervisor) -> None:
    def only_part() -> PartStatus:
        return supervisor.status().parts[0]

    process = only_part().process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE_S
    while not (only_part().ready and only_part().restarts):
        assert time.monotonic() < deadline, only_part()
        await asyncio.sleep(0.02)


def _postgres_part(data_dir: DataDir, port: int) -> Part:
    password = load_secrets(data_dir).postgres_owner
    return postgres.part(data_dir, port=port, owner_password=password, environment=_environment())


async def _postgres_story(data_dir: DataDir) -> None:
    """A committed row survives kill -9 of the server and, then, a clean restart."""
    port = _free_port()
    password = load_secrets(data_dir).postgres_owner
    url = postgres.url(port, role=postgres.OWNER, password=password)
    async with _running(data_dir, _postgres_part(data_dir, port)) as supervisor:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (n int)")
            connection.execute("INSERT INTO kept VALUES (1)")
            shown = connection.execute("SHOW fsync").fetchone()
            assert shown == ("on",)
        await _kill_and_wait(supervisor)
    (data_dir.postgres / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    async with _running(data_dir, _postgres_part(data_dir, port)):
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchall() == [(1,)]
        wrong = postgres.with_role(url, role=postgres.OWNER, password="guess")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(wrong)


def test_postgres_keeps_rows_through_kill_9_and_a_stale_pid_file(tmp_path: Path) -> None:
    # pytest's own directories have mode 700, so that root needs a user namespace here.
    asyncio.run(_postgres_story(open_data_dir(tmp_path / "ledger")))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change to another user")
def test_postgres_runs_as_its_own_user_where_that_user_can_pass() -> None:
    try:
        expected = pwd.getpwnam("postgres").pw_uid
    except KeyError:
        pytest.skip("this machine has no user postgres")
    # Not tmp_path: every pytest that starts closes their common parent to other users again.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o711)
        data_dir = open_data_dir(Path(directory) / "ledger")
        asyncio.run(_postgres_story(data_dir))
        assert (data_dir.postgres / "data").stat().st_uid == expected


def test_redis_asks_for_its_password_and_survives_kill_9(tmp_path: Path) -> None:
    data_dir, port = open_data_dir(tmp_path / "ledger"), _free_port()
    part = redis.part(data_dir, port=port, password="secret", environment=_environment())

    async def story() -> None:
        async with _running(data_dir, part) as supervisor:
            await _kill_and_wait(supervisor)
            assert not await redis.probe(redis.url(port, "guess"))()
            async with Redis.from_url(redis.url(port, "secret"), db=14) as client:
                await client.set("position", 812)
        async with (
            _running(data_dir, part),
            Redis.from_url(redis.url(port, "secret"), db=14) as client,
        ):
            assert await client.get("position") == b"812"

    asyncio.run(story())


def test_kafka_formats_once_and_survives_kill_9(tmp_path: Path) -> None:
    data_dir, port = open_data_dir(tmp_path / "ledger"), _free_port()
    part = kafka.part(
        data_dir,
        port=port,
        controller_port=_free_port(),
        cluster_id=load_secrets(data_dir).kafka_cluster_id,
        cache_dir=load_config().cache_dir,
        environment=_environment(),
    )

    async def story() -> None:
        async with _running(data_dir, part) as supervisor:
            formatted = (data_dir.kafka / "log" / "meta.properties").read_text()
            await _kill_and_wait(supervisor)
            assert (data_dir.kafka / "log" / "meta.properties").read_text() == formatted

    asyncio.run(story())


def test_missing_programs_are_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = open_data_dir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ServerUnavailable, match="make setup"):
        redis.part(data_dir, port=1, password="x", environment={})
    with pytest.raises(ServerUnavailable, match="make setup"):
        kafka.part(
            data_dir,
            port=1,
            controller_port=2,
            cluster_id="x",
            cache_dir=tmp_path,
            environment={},
        )
