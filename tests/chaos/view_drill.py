"""One run of faults on the projections of a cluster: hurt them under load, wait, judge, go on."""

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import Callable, Sequence

import msgspec

from ops.leader import LeaderLocator
from schemas import views
from tests.chaos.load import Load
from tests.chaos.view_auditor import Part, ViewAuditor
from tests.chaos.view_faults import LOSES_VIEWS, ViewFault, inflict
from tests.fixtures._cluster import ENGINES, Cluster
from tests.fixtures._member import wait_for

WORKERS = 8
# Load runs for about this long between one recovery and the next fault.
HOT_S = (0.05, 0.5)
NEW_ANSWERS = 100
DEADLINE_S = 120.0
# Faults after which the log is made to stand still and every view is compared.
JUDGED_EVERY = 10


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """lasted_s: the fault itself. recovered_s: from its end until all views held the log's head of
    that moment.
    """

    fault: ViewFault
    lasted_s: float
    recovered_s: float
    findings: tuple[str, ...] = ()


class Report(msgspec.Struct, kw_only=True):
    seed: str
    outcomes: list[Outcome]
    findings: list[str]
    events: int = 0
    commands: int = 0
    comparisons: int = 0

    @property
    def all_findings(self) -> list[str]:
        own = [f"after {o.fault}: {finding}" for o in self.outcomes for finding in o.findings]
        return own + self.findings

    def text(self) -> str:
        lines = [
            f"seed {self.seed}: {len(self.outcomes)} faults, {self.commands:,} commands, "
            f"{self.events:,} events, all views compared {self.comparisons} times; "
            f"{len(self.all_findings)} violations",
            f"{'fault':<36}{'times':>6}{'views back, median s':>22}{'worst s':>9}",
        ]
        for fault in ViewFault:
            waits = [o.recovered_s for o in self.outcomes if o.fault is fault]
            if waits:
                median, worst = statistics.median(waits), max(waits)
                lines.append(f"{fault:<36}{len(waits):>6}{median:>22.2f}{worst:>9.2f}")
        return "\n".join([*lines, *self.all_findings]) + "\n"


class ViewDrill:
    """Holds what a run needs between faults."""

    def __init__(
        self, cluster: Cluster, seed: str, report: Report, tell: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._chance = random.Random(seed)
        self._report = report
        self._tell = tell
        self._auditor = ViewAuditor(cluster)
        self._locator = LeaderLocator(cluster.reader_url)
        self._load = Load(seed, self._locator, workers=WORKERS)

    async def run(self, faults: Sequence[ViewFault]) -> None:
        """Stops at the first violation, whose traces are then still warm."""
        try:
            async with self._load.running():
                await self._reach(await self._head())
                for number, fault in enumerate(faults, 1):
                    outcome = await self._strike(fault)
                    self._report.outcomes.append(outcome)
                    self._tell(
                        f"{number}. {fault}: lasted {outcome.lasted_s:.1f} s,"
                        f" views back after {outcome.recovered_s:.2f} s"
                    )
                    if number % JUDGED_EVERY == 0 or number == len(faults):
                        await self._judge()
                    if self._report.all_findings:
                        return
        finally:
            await self._locator.close()

    async def _strike(self, fault: ViewFault) -> Outcome:
        self._load.hurry()
        await self._answers_come()
        await _pass(self._chance.uniform(*HOT_S))
        before = await asyncio.to_thread(self._epochs)
        chance = random.Random(self._chance.random())
        began = time.monotonic()
        await asyncio.to_thread(inflict, fault, self._cluster, chance)
        ended = time.monotonic()
        self._load.calm()
        await self._reach(await self._head())
        recovered_s = time.monotonic() - ended
        after = await asyncio.to_thread(self._epochs)
        return Outcome(
            fault=fault,
            lasted_s=ended - began,
            recovered_s=recovered_s,
            findings=tuple(_epoch_findings(fault, before, after)),
        )

    async def _answers_come(self) -> None:
        """Until the engine takes commands as fast as they come, after a start too."""
        wanted, end = len(self._load.answers) + NEW_ANSWERS, time.monotonic() + DEADLINE_S
        while len(self._load.answers) < wanted:
            assert time.monotonic() < end, f"no answers\n{self._cluster.told()}"
            await asyncio.sleep(0.01)

    async def _judge(self) -> None:
        """With both engines stopped, so that the log stands still."""
        report, load = self._report, self._load
        await load.settle(DEADLINE_S)
        for name in ENGINES:
            await asyncio.to_thread(self._cluster.members[name].stop)
        await self._reach(await self._head())
        report.findings += await asyncio.to_thread(self._auditor.judge)
        report.comparisons += 1
        report.events = self._auditor.position
        report.commands += len(load.answers)
        load.answers.clear()
        for name in ENGINES:
            self._cluster.members[name].start()
        load.go_on()

    async def _head(self) -> int:
        return await asyncio.to_thread(self._auditor.head)

    async def _reach(self, position: int) -> None:
        await asyncio.to_thread(
            wait_for,
            lambda: self._auditor.are_at(position),
            lambda: f"not at {position}: {self._auditor.checkpoints()}\n{self._cluster.told()}",
            deadline_s=DEADLINE_S,
        )

    def _epochs(self) -> dict[Part, str]:
        return {part: one.epoch for part, one in self._auditor.checkpoints().items()}


def _epoch_findings(fault: ViewFault, before: dict[Part, str], after: dict[Part, str]) -> list[str]:
    """New where the views were lost, and only there: the deep history is not in Redis."""
    return [
        f"epoch of {projection} {partition}: {epoch} before, {after[projection, partition]} after"
        for (projection, partition), epoch in before.items()
        if (epoch != after[projection, partition])
        is not (fault in LOSES_VIEWS and projection in views.HOME_DB)
    ]


async def _pass(seconds: float) -> None:
    """A random instant is what is tested, so there is nothing to wait for."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().create_future()
