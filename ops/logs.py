"""How every part logs: one line per record to standard error, for people or as JSON for programs.

Rooms log with the standard library; fields come by `extra=`, from structlog.contextvars (trace) and
from here (part, and whatever `place` says). Passwords and tokens are hidden in the finished line,
wherever they came from.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ops.config import Config

# Not projections: Faust tells there what it does, under our module's name.
_OURS = ("durian", "engine", "gateway", "ops")
_HIDDEN = "***"
_PASSWORD = re.compile(r"(?<=://)([^:/\s@]*):[^@\s]+@")
_ASSIGNED = re.compile(r"\b(password\s*=\s*)[^\s'\",}]+", re.IGNORECASE)
_TOKEN = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+")

Fields = Callable[[], Mapping[str, object]]


def configure_logs(
    config: Config, *, place: Fields | None = None, stream: TextIO | None = None
) -> None:
    """Send what this process logs to `stream` (standard error); may be called again.

    place: fields of the moment, such as epoch and position, asked for with each line, from any
    thread. Other people's packages are heard from level warning on, unless ours are at debug:
    Kafka's clients tell each step of a rebalance, httpx each request.
    """
    out = stream or sys.stderr
    handler = logging.StreamHandler(out)
    handler.setFormatter(_formatter(config, place, out))
    level = config.log_level.upper()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level if level in ("DEBUG", "ERROR") else "WARNING")
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_described(config, place),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _formatter(config: Config, place: Fields | None, out: TextIO) -> logging.Formatter:
    shown: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if config.log_format == "json":
        shown += [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        shown += [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(),
                timestamp_key="at",
                pad_event_to=0,
                # The default one shows local variables, and so whatever secret is in them.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    return structlog.stdlib.ProcessorFormatter(
        processors=[*shown, hide_secrets],
        foreign_pre_chain=[*_described(config, place), structlog.stdlib.ExtraAdder()],
    )


def _described(config: Config, place: Fields | None) -> list[Processor]:
    def add_place(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if config.part:
            event.setdefault("part", config.part)
        for name, field in place().items() if place else ():
            event.setdefault(name, field)
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        add_place,
    ]


def hide_secrets(logger: object, method: str, line: object) -> str:
    """A finished line without passwords of URLs and without bearer tokens."""
    text = _PASSWORD.sub(rf"\1:{_HIDDEN}@", str(line))
    return _TOKEN.sub(_HIDDEN, _ASSIGNED.sub(rf"\1{_HIDDEN}", text))
