"""The database of the deep history: made where it is missing, and its version checked."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic.script import ScriptDirectory

from engine.errors import SchemaVersion, StoreUnavailable
from engine.postgres.schema import require_schema, schema_version
from ops.config import Config
from ops.history_database import history_url_beside, provision_history
from ops.projecting import open_store
from ops.servers import postgres
from projections.history import schema
from projections.history.schema import HISTORY_SCHEMA_VERSION, schema_of
from schemas.views import HISTORY
from tests.fixtures.history import PASSWORDS, HistoryDatabase

pytestmark = pytest.mark.services


@pytest.fixture
def missing_database(postgres_server: str, database_names: Iterator[str]) -> Iterator[str]:
    """The owner's URL of a database that is not there."""
    name = next(database_names)
    yield postgres_server.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def test_the_newest_migration_is_the_version_that_the_projector_requires() -> None:
    assert ScriptDirectory(str(schema.MIGRATIONS)).get_current_head() == HISTORY_SCHEMA_VERSION


def test_history_lies_beside_the_log_unless_told_otherwise() -> None:
    assert history_url_beside("postgresql://a:b@h:1/durian_ledger?x=1") == (
        "postgresql://a:b@h:1/trading_db?x=1"
    )


def test_database_is_made_once_by_several_at_once(missing_database: str) -> None:
    together = threading.Barrier(4)

    def run(_: int) -> int:
        together.wait()
        return len(provision_history(missing_database, **PASSWORDS).applied)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(run, range(4))) == [0, 0, 0, 1]
    assert schema_version(missing_database) == HISTORY_SCHEMA_VERSION


def test_role_that_may_not_make_it_is_told_what_to_do(
    postgres_server: str, missing_database: str
) -> None:
    with psycopg.connect(postgres_server, autocommit=True) as owner:
        owner.execute("DROP ROLE IF EXISTS modest")
        owner.execute("CREATE ROLE modest LOGIN PASSWORD 'm'")
    url = postgres.with_role(missing_database, role="modest", password="m")
    with pytest.raises(StoreUnavailable, match="owned by this role, or set DURIAN_HISTORY_URL"):
        provision_history(url, **PASSWORDS)


def test_server_that_is_away_is_a_fault_of_the_store() -> None:
    with pytest.raises(StoreUnavailable, match="cannot reach database none"):
        provision_history("postgresql://nobody:x@127.0.0.1:1/none", **PASSWORDS)


@pytest.mark.parametrize("version", ["0000", "9999"])
def test_projector_does_not_start_on_another_version(
    history_database: HistoryDatabase, version: str
) -> None:
    require_schema(history_database.writer_url, HISTORY_SCHEMA_VERSION)
    with psycopg.connect(history_database.owner_url) as owner:
        owner.execute("UPDATE alembic_version SET version_num = %s", (version,))
    with pytest.raises(SchemaVersion):
        open_store(Config(history_url=history_database.writer_url), HISTORY)


@pytest.mark.parametrize("name", ["", "1; DROP", "-1", "\uff11"])
def test_only_numbers_name_a_generation(name: str) -> None:
    with pytest.raises(ValueError, match="no generation"):
        schema_of(name)
