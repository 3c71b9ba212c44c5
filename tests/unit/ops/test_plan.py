"""ops.plan: which parts there are, in which order, and that no part knows more than it needs."""

import contextlib
from pathlib import Path

import msgspec
import pytest

from gateway.stream.protocol import CLOSE_SECONDS_MAX
from gateway.stream.routes import DRAIN_SECONDS_MAX
from ops.config import Config, Ports
from ops.datadir import load_secrets, open_data_dir
from ops.errors import UsageError
from ops.part import Part
from ops.plan import Plan, StackOptions, plan_stack
from ops.ports import PortReservations
from ops.serving import GRACE_SECONDS
from ops.supervisor import Supervisor

# Servers of others, so that planning needs no program of this machine.
EXTERNAL = Config(
    postgres_url="postgresql://boss:pw@db:5/ledger",
    redis_url="redis://:pw@views:6",
    kafka_url="kafka://broker:9",
    ports=Ports(contribution=22020, mining=22021, trading=22022, stream=22025, engine=22030),
)


def _plan(root: Path, **options: object) -> Plan:
    data_dir = open_data_dir(root)
    with contextlib.closing(PortReservations()) as held:
        chosen = StackOptions(data_dir=root, **options)  # type: ignore[arg-type]
        return plan_stack(EXTERNAL, chosen, data_dir, held)


def _part(plan: Plan, name: str) -> Part:
    return next(part for part in plan.parts if part.name == name)


def test_streams_share_a_port_and_have_time_to_drain(tmp_path: Path) -> None:
    several = msgspec.structs.replace(EXTERNAL, stream_processes=3)
    data_dir = open_data_dir(tmp_path)
    with contextlib.closing(PortReservations()) as held:
        plan = plan_stack(several, StackOptions(data_dir=tmp_path), data_dir, held)
    names = ("stream", "stream-2", "stream-3")
    streams = [_part(plan, name) for name in names]
    assert {part.argv[-2:] for part in streams} == {("serve", "stream")}
    assert {part.environment["DURIAN_PORT_STREAM"] for part in streams} == {"22025"}
    assert [bool(part.addresses) for part in streams] == [True, False, False]
    drain_s = DRAIN_SECONDS_MAX + CLOSE_SECONDS_MAX + GRACE_SECONDS
    assert all(part.stop_timeout_s > drain_s for part in streams)


def test_servers_that_are_configured_are_only_probed(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    for name in ("postgres", "redis", "kafka"):
        assert _part(plan, name).argv == ()
        assert _part(plan, name).probe is not None
    assert _part(plan, "kafka").addresses["kafka"]["bootstrap"] == "broker:9"


def test_each_part_gets_its_own_role_and_nobody_elses_password(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    secrets = load_secrets(open_data_dir(tmp_path))
    urls = {part.name: part.environment.get("DURIAN_POSTGRES_URL", "") for part in plan.parts}
    assert urls["migrate"] == EXTERNAL.postgres_url
    assert urls["engine"] == f"postgresql://durian_log_writer:{secrets.log_writer}@db:5/ledger"
    assert urls["relay"] == f"postgresql://durian_log_reader:{secrets.log_reader}@db:5/ledger"
    histories = {part.name: part.environment.get("DURIAN_HISTORY_URL", "") for part in plan.parts}
    writer = f"postgresql://durian_history_writer:{secrets.history_writer}@db:5/trading_db"
    reader = f"postgresql://durian_history_reader:{secrets.history_reader}@db:5/trading_db"
    assert histories["projector-history"] == writer
    assert histories["api"] == reader
    assert histories["migrate"] == "postgresql://boss:pw@db:5/trading_db"
    assert histories["engine"] == histories["projector-market"] == ""
    # Gateways read in the log's head row which engine leads.
    assert urls["api"] == urls["stream"] == urls["relay"]
    for part in plan.parts:
        told = " ".join((*part.environment.values(), *part.argv))
        assert ("boss:pw" in told) == (part.name in ("migrate", "jobs"))
        assert (secrets.log_writer in told) == (part.name in ("migrate", "engine"))
        assert (secrets.history_writer in told) == (part.name in ("migrate", "projector-history"))
        assert (secrets.auth in told) == (part.name in ("migrate", "auth", "admin"))
        assert (secrets.desk in told) == (part.name in ("migrate", "api", "admin", "jobs"))
        assert ("DURIAN_TOKEN_KEYS" in part.environment) == (part.name == "auth")


def test_services_have_an_address_each(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    addresses = {name: dict(a) for part in plan.parts for name, a in part.addresses.items()}
    trading = plan.client_config.ports.trading
    assert addresses["trading"]["url"] == f"http://127.0.0.1:{trading}"
    assert addresses["auth"]["url"].endswith(f":{plan.client_config.ports.auth}")
    assert addresses["admin"]["url"].endswith(f":{plan.client_config.ports.admin}")
    assert addresses["stream"]["url"].endswith("/v1/stream")
    assert addresses["engine"]["url"] == plan.client_config.engine_url


def test_extra_parts_start_after_everything_else(tmp_path: Path) -> None:
    plan = _plan(tmp_path, extra_parts={"demo": ("bots",)})
    demo = plan.parts[-1]
    assert (demo.name, demo.argv[-1]) == ("demo", "bots")
    assert {"engine", "api", "stream", "projector-market"} <= set(demo.depends_on)


def test_a_plan_is_one_the_supervisor_can_run(tmp_path: Path) -> None:
    Supervisor(_plan(tmp_path).parts, open_data_dir(tmp_path))


def test_a_ledger_does_not_change_its_genesis(tmp_path: Path) -> None:
    _plan(tmp_path, genesis=b"{}")
    _plan(tmp_path, genesis=b"{}")
    with pytest.raises(UsageError, match="another genesis"):
        _plan(tmp_path, genesis=b"[]")


def test_history_has_its_own_server_if_that_is_configured(tmp_path: Path) -> None:
    data_dir = open_data_dir(tmp_path)
    config = msgspec.structs.replace(EXTERNAL, history_url="postgresql://h:pw@other:7/deep")
    with contextlib.closing(PortReservations()) as held:
        plan = plan_stack(config, StackOptions(data_dir=tmp_path), data_dir, held)
    url = _part(plan, "projector-history").environment["DURIAN_HISTORY_URL"]
    assert url.startswith("postgresql://durian_history_writer:") and url.endswith("@other:7/deep")
    assert _part(plan, "migrate").environment["DURIAN_HISTORY_URL"] == config.history_url
    published = _part(plan, "postgres").addresses["history"]["url"]
    assert published.startswith("postgresql://durian_history_reader:")
