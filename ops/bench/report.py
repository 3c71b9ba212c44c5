"""What a benchmark says: rows of ours against a reference, as JSON or as a table for people."""

import msgspec
from rich.console import Console
from rich.table import Table


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One metric; its name carries the unit. ratio: ours / reference. None: there is none.

    target: in words, such as ">= 40,000"; met: whether ours, or the ratio, is within it.
    """

    metric: str
    ours: float
    reference: float | None = None
    reference_name: str | None = None
    ratio: float | None = None
    target: str | None = None
    met: bool | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """notes: what was measured and what is included, one sentence or two each."""

    name: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def row(
    metric: str,
    ours: float,
    *,
    reference: float | None = None,
    reference_name: str | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """A row whose target, if any, is a bound on ours."""
    target, met = None, None
    if at_least is not None:
        target, met = f">= {_number(at_least)}", ours >= at_least
    elif at_most is not None:
        target, met = f"<= {_number(at_most)}", ours <= at_most
    return Row(
        metric=metric,
        ours=_rounded(ours),
        reference=None if reference is None else _rounded(reference),
        reference_name=reference_name,
        ratio=_rounded(ours / reference) if reference else None,
        target=target,
        met=met,
    )


def show(report: Report, console: Console) -> None:
    """The table, then the notes."""
    table = Table(title=f"durian bench {report.name}", title_justify="left")
    table.add_column("metric")
    for heading in ("ours", "reference", "ratio", "target", "met"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("reference is")
    for line in report.rows:
        met = {None: "", True: "yes", False: "NO"}[line.met]
        numbers = (line.ours, line.reference, line.ratio)
        shown = ["" if number is None else _number(number) for number in numbers]
        table.add_row(line.metric, *shown, line.target or "", met, line.reference_name or "")
    console.print(table)
    for note in report.notes:
        console.print(f"- {note}", markup=False, highlight=False)


def _rounded(number: float) -> float:
    """Three digits and more are kept of any size of number."""
    for size, decimals in ((1_000, 0), (10, 1), (0.1, 3)):
        if number >= size:
            return round(number, decimals)
    return round(number, 6)


def _number(number: float) -> str:
    return f"{number:,.0f}" if number >= 1_000 or number == int(number) else f"{number:,}"
