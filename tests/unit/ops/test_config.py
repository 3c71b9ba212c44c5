"""ops.config: the environment becomes one struct, or a message that names the variable."""

from pathlib import Path

import pytest

from ops.config import (
    HIDDEN,
    Ports,
    archive_directory,
    inherited_environment,
    load_config,
    redacted,
    require,
)
from ops.errors import UsageError


def test_an_empty_environment_gives_the_defaults() -> None:
    config = load_config({})
    assert (config.postgres_url, config.clock, config.ports) == ("", "wall", Ports())
    assert config.data_dir == Path(".durian")


def test_variables_are_read_and_empty_ones_count_as_unset() -> None:
    config = load_config(
        {"DURIAN_DATA": "/x", "DURIAN_CLOCK": "virtual", "DURIAN_PORT_TRADING": "4022"}
        | {"DURIAN_REDIS_URL": "", "NOTIFY_SOCKET": "@s"}
    )
    assert (config.data_dir, config.clock, config.notify_socket) == (Path("/x"), "virtual", "@s")
    assert config.ports.trading == 4022
    assert config.redis_url == ""


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({"DURIAN_CLOCK": "sundial"}, "DURIAN_CLOCK"),
        ({"DURIAN_PORT_KAFKA": "high"}, "DURIAN_PORT_KAFKA"),
        ({"DURIAN_KAFKA_URL": "http://x"}, "DURIAN_KAFKA_URL"),
        ({"DURIAN_STREAM_PROCESSES": "0"}, "DURIAN_STREAM_PROCESSES"),
        ({"DURIAN_STREAM_CONNECTIONS_MAX": "-1"}, "DURIAN_STREAM_CONNECTIONS_MAX"),
        ({"DURIAN_POSTGRES_URL": "db.example"}, "DURIAN_POSTGRES_URL"),
    ],
)
def test_a_value_that_cannot_be_used_names_its_variable(
    environment: dict[str, str], variable: str
) -> None:
    with pytest.raises(UsageError, match=variable):
        load_config(environment)


def test_the_cache_follows_its_own_variable_then_the_desktop_standard() -> None:
    assert load_config({"XDG_CACHE_HOME": "/c"}).cache_dir == Path("/c/durian")
    both = {"XDG_CACHE_HOME": "/c", "DURIAN_CACHE": "/d"}
    assert load_config(both).cache_dir == Path("/d")


def test_archives_are_in_the_data_directory_or_where_it_says() -> None:
    assert archive_directory(load_config({"DURIAN_DATA": "/d"})) == Path("/d/archive")
    both = load_config({"DURIAN_DATA": "/d", "DURIAN_ARCHIVE": "/a"})
    assert archive_directory(both) == Path("/a")


def test_require_names_what_is_missing() -> None:
    assert require(load_config({"DURIAN_KAFKA_URL": "kafka://h:1"}), "kafka_url") == "kafka://h:1"
    with pytest.raises(UsageError, match="DURIAN_KAFKA_URL is not set"):
        require(load_config({}), "kafka_url")


def test_printing_hides_every_secret() -> None:
    secret = "swordfish"
    config = load_config(
        {
            "DURIAN_POSTGRES_URL": f"postgresql://u:{secret}@h:1/d",
            "DURIAN_REDIS_URL": f"redis://:{secret}@h:2",
            "DURIAN_LOG_WRITER_PASSWORD": secret,
            "DURIAN_LOG_READER_PASSWORD": secret,
        }
    )
    shown = redacted(config)
    assert secret not in str(shown)
    assert shown["postgres_url"] == f"postgresql://u:{HIDDEN}@h:1/d"


def test_parts_do_not_inherit_what_belongs_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DURIAN_POSTGRES_URL", "DURIAN_LOG_WRITER_PASSWORD", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("DURIAN_LOG_LEVEL", "debug")
    inherited = inherited_environment()
    assert inherited["DURIAN_LOG_LEVEL"] == "debug"
    assert not {"DURIAN_POSTGRES_URL", "DURIAN_LOG_WRITER_PASSWORD", "NOTIFY_SOCKET"} & set(
        inherited
    )
