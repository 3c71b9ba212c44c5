"""What `durian` shows of a stack: a live table on a terminal, plain lines everywhere else.

Turns a StackStatus into text; knows no process and waits for nothing.
"""

import sys
from typing import Protocol, TextIO

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ops.config import redact_url
from ops.status import PartStatus, StackStatus

REFRESH_PER_SECOND = 8
PROGRESS_WIDTH = 40
# mark, name, state; what is left of the line is for the address or the part's own words.
COLUMN_WIDTHS = (1, 18, 10, 10)
# How parts begin to say what is wrong with them while they are ready: projectors, the relay.
_TROUBLES = ("stopped at ", "waits: ", "Kafka does not answer", "PostgreSQL does not answer")
_STYLES = {
    "waiting": "dim",
    "starting": "yellow",
    "ready": "green",
    "done": "green",
    "failed": "bold red",
    "stopping": "yellow",
    "stopped": "dim",
}


class Report(Protocol):
    """Shows a stack on its way up or down; close() ends what is drawn."""

    def show(self, status: StackStatus) -> None: ...

    def close(self) -> None: ...


def open_report(stream: TextIO | None = None) -> Report:
    """The report that suits where the output goes (standard error unless told)."""
    target = stream or sys.stderr
    console = Console(file=target)
    return LiveReport(console) if console.is_terminal else PlainReport(target)


class PlainReport:
    """One line for each part whenever its state changes, and nothing twice.

    known: a status whose parts the reader has seen already.
    """

    def __init__(self, stream: TextIO, known: StackStatus | None = None) -> None:
        self._stream = stream
        self._shown: dict[str, str] = {}
        if known is not None:
            self._shown = dict(_plain_lines(known))

    def show(self, status: StackStatus) -> None:
        for key, line in _plain_lines(status):
            if self._shown.get(key) != line:
                self._shown[key] = line
                print(line, file=self._stream, flush=True)

    def close(self) -> None:
        self._stream.flush()


class LiveReport:
    """A table that is redrawn in place, with a spinner for what is starting."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=REFRESH_PER_SECOND)
        self._live.start()

    def show(self, status: StackStatus) -> None:
        table = Table.grid(padding=(0, 2))
        for width in COLUMN_WIDTHS:
            table.add_column(no_wrap=True, min_width=width, overflow="ellipsis")
        for part in status.parts:
            table.add_row(*_row(part))
        ready = sum(part.ready for part in status.parts)
        rows = [Text(notice, style="yellow") for notice in status.notices]
        bar = ProgressBar(total=len(status.parts), completed=ready, width=PROGRESS_WIDTH)
        footer = Table.grid(padding=(0, 1))
        footer.add_row(bar, f"{ready} of {len(status.parts)} ready")
        self._live.update(Group(*rows, table, footer))

    def close(self) -> None:
        self._live.stop()


def _row(part: PartStatus) -> tuple[Text | Spinner, Text, Text, Text]:
    style = _STYLES[part.state]
    busy = part.state in ("starting", "stopping")
    mark: Text | Spinner = Spinner("dots", style=style) if busy else Text("●", style=style)
    detail = part.text or " ".join(_places(part))
    restarts = f" (restart {part.restarts})" if part.restarts else ""
    return mark, Text(part.name), Text(part.state + restarts, style=style), Text(detail)


def _plain_lines(status: StackStatus) -> list[tuple[str, str]]:
    # Of a part's own words only those of trouble are shown: others would be a line every second.
    lines = [(notice, notice) for notice in status.notices]
    for part in status.parts:
        if part.state == "waiting":
            continue
        restarts = f"restart {part.restarts}" if part.restarts else ""
        is_trouble = part.state == "failed" or part.text.startswith(_TROUBLES)
        detail = part.text if is_trouble else " ".join(_places(part))
        words = (f"{part.name:<18}", f"{part.state:<9}", restarts, detail)
        lines.append((part.name, " ".join(word for word in words if word).rstrip()))
    return lines


def _places(part: PartStatus) -> list[str]:
    return [redact_url(address["url"]) for address in part.addresses.values() if "url" in address]


def address_lines(status: StackStatus) -> list[str]:
    """One line for each address of a stack, passwords hidden, ports aligned for the eye."""
    found = {
        name: redact_url(address["url"])
        for part in status.parts
        for name, address in part.addresses.items()
        if "url" in address
    }
    return [f"  {name:<14} {url}" for name, url in found.items()]


def print_json(value: object) -> None:
    """The one form in which commands print data for programs: indented JSON on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")
    sys.stdout.flush()
