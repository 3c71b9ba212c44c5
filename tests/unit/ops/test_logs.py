"""ops.logs: what a line says, in both formats, and what it must never say."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from ops.config import Config
from ops.logs import Fields, configure_logs, hide_secrets

TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl"
log = logging.getLogger("gateway.somewhere")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("durian", "engine", "gateway", "ops"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def configured(config: Config, place: Fields | None = None) -> io.StringIO:
    stream = io.StringIO()
    configure_logs(config, place=place, stream=stream)
    return stream


def test_a_json_line_has_the_fields_of_the_moment() -> None:
    position = 7
    config = Config(log_format="json", part="engine")
    stream = configured(config, lambda: {"epoch": 3, "position": position})
    with structlog.contextvars.bound_contextvars(trace="t-1"):
        log.info("%d orders", 2, extra={"market": "DUR-CNY"})
    position = 8
    log.warning("second")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", first.pop("at"))
    assert first == {
        "message": "2 orders",
        "level": "info",
        "logger": "gateway.somewhere",
        "part": "engine",
        "epoch": 3,
        "position": 7,
        "trace": "t-1",
        "market": "DUR-CNY",
    }
    assert (second["level"], second["position"], "trace" in second) == ("warning", 8, False)


def test_a_line_for_people_reads_without_colours_in_a_file() -> None:
    stream = configured(Config(part="api"))
    log.warning("engine connection lost: %s", "reset")
    line = stream.getvalue()
    assert re.fullmatch(
        r"\S+Z \[warning *\] engine connection lost: reset *\[gateway.somewhere\] part=api\n", line
    )


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_is_told_without_secrets(log_format: str) -> None:
    stream = configured(Config(log_format="json" if log_format == "json" else "console"))
    password = "correct-horse"
    try:
        raise ConnectionError(f"cannot reach postgresql://owner:{password}@db:5432/ledger")
    except ConnectionError:
        log.exception("no log, token %s", TOKEN)
    text = stream.getvalue()
    assert "ConnectionError: cannot reach postgresql://owner:***@db:5432/ledger" in text
    assert "test_logs.py" in text
    assert password not in text
    assert TOKEN not in text
    if log_format == "json":
        assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("redis://:s3cret@host:1/0", "redis://:***@host:1/0"),
        ("host=db password=s3cret user=x", "host=db password=*** user=x"),
        (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer ***"),
        ("tcp://host:3030 and a@b", "tcp://host:3030 and a@b"),
    ],
)
def test_secrets_are_hidden_wherever_they_stand(line: str, shown: str) -> None:
    assert hide_secrets(None, "", line) == shown


def test_levels_are_ours_and_others_are_quiet() -> None:
    stream = configured(Config(log_level="info"))
    log.debug("too much")
    log.info("ours")
    logging.getLogger("driver").info("theirs")
    logging.getLogger("driver").warning("their trouble")
    assert [line.split("] ")[1].split(" ")[0] for line in stream.getvalue().splitlines()] == [
        "ours",
        "their",
    ]
    stream = configured(Config(log_level="debug"))
    logging.getLogger("driver").debug("everything")
    assert "everything" in stream.getvalue()


def test_structlogs_own_loggers_arrive_too() -> None:
    stream = configured(Config(log_format="json"))
    structlog.get_logger("durian").info("bound", position=5)
    line = json.loads(stream.getvalue())
    assert (line["message"], line["position"], line["logger"]) == ("bound", 5, "durian")
