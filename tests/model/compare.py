"""`python -m tests.model.compare --commands 100000 --seed N`: the domain against the naive model.

Runs ledgers of LEDGER_COMMANDS random commands each. At the first difference it prints the seed,
the command, both answers and the shortest course found that still differs, and exits with 1.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random
from typing import get_args

import click
import msgspec

from schemas.events import EVENT_TYPES, CancelReason
from schemas.rejections import RejectionCode
from tests.model.naive_mining import SCALE
from tests.model.random_world import RandomWorld
from tests.model.two_ledgers import Difference, Step, TwoLedgers

LEDGER_COMMANDS = 500
CHECK_COMMANDS = 50
LONG_GAPS_FROM_COMMANDS = 20_000
SHORTENING_RUNS_MAX = 400
# The engine's own: a full queue, and a writer taking the lead.
NOT_THE_LEDGERS = {"overloaded", "idempotency_key_reused", "clock_is_wall", "epoch_started"}


@dataclass
class Outcome:
    """steps: the shortest course found that still differs; empty if there is no difference."""

    seed: int
    commands: int = 0
    ticks: int = 0
    seconds: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    error_max: Fraction = Fraction(0)
    difference: Difference | None = None
    steps: list[Step] = field(default_factory=list)

    @property
    def unseen(self) -> list[str]:
        """Rejection codes, event types and cancel reasons that never occurred."""
        wanted = {code.value for code in RejectionCode}
        wanted |= {str(kind.__struct_config__.tag) for kind in EVENT_TYPES}
        wanted |= {f"cancelled: {reason}" for reason in get_args(CancelReason)}
        return sorted(wanted - NOT_THE_LEDGERS - self.seen.keys())


def compare(commands: int, seed: int, *, is_quiet: bool = True) -> Outcome:
    """Stops at the first difference. The same seed and count give the same commands."""
    outcome, started = Outcome(seed), time.perf_counter()
    ledgers = -(-commands // LEDGER_COMMANDS)
    for number in range(ledgers):
        has_long_gaps = number == 0 and commands >= LONG_GAPS_FROM_COMMANDS
        world = RandomWorld(Random(f"{seed} {number}"), has_long_gaps=has_long_gaps)
        count = min(LEDGER_COMMANDS, commands - outcome.commands)
        _run_ledger(world, count, outcome)
        outcome.seconds = time.perf_counter() - started
        if outcome.difference is not None:
            break
        if not is_quiet:
            rate = outcome.commands / outcome.seconds
            click.echo(f"\r{outcome.commands:,} commands, {rate:,.0f}/s", err=True, nl=False)
    if not is_quiet:
        click.echo(err=True)
    return outcome


def _run_ledger(world: RandomWorld, count: int, outcome: Outcome) -> None:
    two, steps = TwoLedgers(), list[Step]()
    try:
        for number in range(count):
            steps.append(world.draw(number, two.naive))
            two.take(steps[-1])
            outcome.commands += 1
            if number % CHECK_COMMANDS == CHECK_COMMANDS - 1:
                two.check()
        two.check()
    except Difference as difference:
        outcome.difference, outcome.steps = difference, steps
    outcome.seen += two.seen
    outcome.ticks += two.ticks
    outcome.error_max = max(outcome.error_max, two.error_max)


def difference_in(steps: list[Step]) -> Difference | None:
    """What a given course of one ledger comes to; also checks all amounts at its end."""
    two = TwoLedgers()
    try:
        for step in steps:
            two.take(step)
        two.check()
    except Difference as difference:
        return difference
    return None


def shorten(
    steps: list[Step], differ: Callable[[list[Step]], Difference | None] = difference_in
) -> tuple[list[Step], Difference | None]:
    """Leave out ever smaller runs of steps as long as some difference remains."""
    found, runs, size = differ(steps), 0, max(1, len(steps) // 2)
    while found is not None:
        start, is_shorter = 0, False
        while start < len(steps) and runs < SHORTENING_RUNS_MAX:
            shorter = _without(steps, start, start + size)
            still, runs = differ(shorter), runs + 1
            if still is None:
                start += size
            else:
                steps, found, is_shorter = shorter, still, True
        if runs >= SHORTENING_RUNS_MAX or (size == 1 and not is_shorter):
            break
        size = max(1, size // 2)
    return steps, found


def _without(steps: list[Step], start: int, end: int) -> list[Step]:
    """The time that the left out steps took still passes."""
    waited = sum(wait_ns for wait_ns, _ in steps[start:end])
    rest = steps[end:]
    if rest:
        rest = [(rest[0][0] + waited, rest[0][1]), *rest[1:]]
    return steps[:start] + rest


def _report(outcome: Outcome) -> dict[str, object]:
    report: dict[str, object] = {
        "seed": outcome.seed,
        "commands": outcome.commands,
        "ticks": outcome.ticks,
        "commands_per_second": round(outcome.commands / outcome.seconds),
        "accrual_error_max_units": float(outcome.error_max / SCALE),
        "unseen": outcome.unseen,
        "seen": dict(sorted(outcome.seen.items())),
        "is_equal": outcome.difference is None,
    }
    if outcome.difference is not None:
        report["command_number"] = outcome.commands + 1
        report["command"] = msgspec.to_builtins(outcome.steps[-1][1])
        report["difference"] = _difference_rows(outcome.difference)
        steps, shorter = shorten(outcome.steps)
        report["shortest"] = [[wait_ns, msgspec.to_builtins(command)] for wait_ns, command in steps]
        if shorter is not None:
            report["shortest_difference"] = _difference_rows(shorter)
    return report


def _difference_rows(difference: Difference) -> dict[str, object]:
    what, domain, naive = difference.what, difference.domain, difference.naive
    if isinstance(domain, list) and isinstance(naive, list) and len(domain) == len(naive):
        pairs = [(theirs, ours) for theirs, ours in zip(domain, naive, strict=True)]
        unequal = [pair for pair in pairs if pair[0] != pair[1]]
        domain, naive = [pair[0] for pair in unequal], [pair[1] for pair in unequal]
    return {"what": what, "domain": domain, "naive": naive}


@click.command()
@click.option("--commands", default=100_000, show_default=True, help="How many, of all ledgers.")
@click.option("--seed", default=1, show_default=True, help="The same seed, the same commands.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
def main(commands: int, seed: int, as_json: bool) -> None:
    """Drive the domain and the naive model with the same random commands."""
    click.echo(f"seed {seed}", err=True)
    outcome = compare(commands, seed, is_quiet=as_json)
    report = _report(outcome)
    if as_json:
        click.echo(json.dumps(report, default=str))
    else:
        for name, value in report.items():
            click.echo(f"{name}: {json.dumps(value, default=str, indent=1)}")
    is_complete = not outcome.unseen or commands < LONG_GAPS_FROM_COMMANDS
    sys.exit(0 if outcome.difference is None and is_complete else 1)


if __name__ == "__main__":
    main()
