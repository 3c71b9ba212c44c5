"""One run of faults on one cluster: hurt it under load, wait for it, judge it, go on.

What it found and how long each kind of fault kept clients waiting ends up in a Report.
"""

import asyncio
import contextlib
import itertools
import random
import statistics
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

import msgspec

from gateway.errors import EngineUnavailable
from ops.leader import LeaderLocator
from schemas.commands import DepositFunds
from schemas.frames import Accepted, Refused, StateDigest
from schemas.rejections import RejectionCode
from tests.chaos.auditor import Auditor, KafkaReader
from tests.chaos.faults import Fault, draw_faults, inflict
from tests.chaos.load import Acknowledged, Load, same_answer
from tests.fixtures._cluster import Cluster
from tests.fixtures._member import wait_for

WORKERS = 300
SECOND_FAULT_AFTER_S = (0.0, 2.0)
# Load runs hot for about this long before the fault, and until this many new answers after it.
HOT_S = (0.05, 0.3)
NEW_ANSWERS = 2 * WORKERS
DEADLINE_S = 60.0
# Faults that wait until a standby is there; the others may find the ledger with one engine.
STANDBY_SHARE = 0.8
OLD_KEYS_KEPT = 4_000
OLD_KEYS_ASKED = 25


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """waited_s: from the fault to the first answer of a command sent after it. epochs: new ones."""

    faults: tuple[Fault, ...]
    waited_s: float
    epochs: int
    findings: tuple[str, ...]


class Report(msgspec.Struct, kw_only=True):
    seed: str
    outcomes: list[Outcome]
    acknowledged: int = 0
    repeats: int = 0
    events: int = 0
    seconds: int = 0

    @property
    def findings(self) -> list[str]:
        return [
            f"after {' + '.join(outcome.faults) or 'nothing'}: {finding}"
            for outcome in self.outcomes
            for finding in outcome.findings
        ]

    def text(self) -> str:
        """The table for people: kinds of faults, how often, how long until answers came again."""
        lines = [
            f"seed {self.seed}: {sum(len(o.faults) for o in self.outcomes)} faults, "
            f"{self.acknowledged:,} commands acknowledged ({self.repeats:,} when asked again), "
            f"{self.events:,} events, {self.seconds:,} seconds; "
            f"{len(self.findings)} violations",
            f"{'fault':<42}{'times':>6}{'median s':>10}{'worst s':>9}{'epochs':>8}",
        ]
        for kind in Fault:
            times = sum(outcome.faults.count(kind) for outcome in self.outcomes)
            alone = [outcome for outcome in self.outcomes if outcome.faults == (kind,)]
            lines.append(_line(kind, times, alone))
        pairs = [outcome for outcome in self.outcomes if len(outcome.faults) > 1]
        lines.append(_line("of these, two together", len(pairs), pairs))
        return "\n".join([*lines, *self.findings]) + "\n"


def _line(name: str, times: int, timed: list[Outcome]) -> str:
    """timed: of which the waits are shown; those of pairs are neither one's."""
    line = f"{name:<42}{times:>6}"
    if not timed:
        return line
    waits = [outcome.waited_s for outcome in timed]
    epochs = sum(outcome.epochs for outcome in timed)
    return f"{line}{statistics.median(waits):>10.2f}{max(waits):>9.2f}{epochs:>8}"


class Drill:
    """Holds what a run needs between faults."""

    def __init__(
        self, cluster: Cluster, seed: str, report: Report, tell: Callable[[str], None]
    ) -> None:
        self._tell = tell
        self._cluster = cluster
        self._report = report
        self._chance = random.Random(seed)
        self._auditor = Auditor(cluster.owner_url)
        self._kafka = KafkaReader(cluster.kafka_bootstrap, self._auditor)
        self._locator = LeaderLocator(cluster.reader_url)
        self._load = Load(seed, self._locator, workers=WORKERS)
        self._old: deque[Acknowledged] = deque(maxlen=OLD_KEYS_KEPT)

    async def run(self, faults: int) -> None:
        """Inflict that many; stops at the first violation, whose traces are then still warm."""
        async with self._located(), self._load.running():
            await self._judge()
            if self._auditor.findings:
                found = tuple(self._auditor.findings)
                self._report.outcomes.append(
                    Outcome(faults=(), waited_s=0, epochs=0, findings=found)
                )
                return
            for struck in draw_faults(self._chance, faults):
                began = time.monotonic()
                outcome = await self._strike(struck)
                self._report.outcomes.append(outcome)
                self._tell(
                    f"{' + '.join(struck)}: longest wait {outcome.waited_s:.2f} s,"
                    f" judged after {time.monotonic() - began:.1f} s"
                )
                if outcome.findings:
                    return

    @contextlib.asynccontextmanager
    async def _located(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._locator.close()

    async def _strike(self, faults: tuple[Fault, ...]) -> Outcome:
        load, epochs = self._load, len(self._auditor.epoch_positions)
        if self._chance.random() < STANDBY_SHARE:
            await asyncio.to_thread(
                wait_for, self._cluster.has_standby, self._cluster.told, deadline_s=DEADLINE_S
            )
        load.hurry()
        await _pass(self._chance.uniform(*HOT_S))
        struck_at = time.monotonic()
        running = [
            asyncio.create_task(self._inflict(fault, number)) for number, fault in enumerate(faults)
        ]
        await asyncio.gather(*running)
        ended_at = time.monotonic()
        recovered = await self._answers_come(ended_at)
        load.calm()
        if not recovered:
            self._auditor.find(f"no new answers within {DEADLINE_S} s")
        waited_s = self._waited(struck_at)
        await self._judge()
        return Outcome(
            faults=faults,
            waited_s=waited_s,
            epochs=len(self._auditor.epoch_positions) - epochs,
            findings=tuple(self._auditor.findings),
        )

    async def _inflict(self, fault: Fault, number: int) -> None:
        chance = random.Random(self._chance.random())
        if number:
            await _pass(chance.uniform(*SECOND_FAULT_AFTER_S))
        await asyncio.to_thread(inflict, fault, self._cluster, chance)

    async def _answers_come(self, after: float) -> bool:
        """Until NEW_ANSWERS commands sent after a moment are answered."""
        deadline, seen = time.monotonic() + DEADLINE_S, 0
        counted = len(self._load.answers)
        while time.monotonic() < deadline:
            fresh = self._load.answers[counted:]
            counted += len(fresh)
            seen += sum(answer.sent_at > after for answer in fresh)
            if seen >= NEW_ANSWERS:
                return True
            await asyncio.sleep(0.01)
        return False

    def _waited(self, struck_at: float) -> float:
        """The longest pause between answers that began at the fault or after it."""
        times = [struck_at, *(a.acked_at for a in self._load.answers if a.acked_at > struck_at)]
        return max((late - early for early, late in itertools.pairwise(times)), default=0)

    # -- judging ------------------------------------------------------------------------------

    async def _judge(self) -> None:
        load, auditor = self._load, self._auditor
        if not await load.settle(DEADLINE_S):
            auditor.find(f"{load.in_flight} commands stay unanswered")
        answers, load.answers = load.answers, []
        told = await self._digest()
        await asyncio.to_thread(auditor.check_digest, told)
        await asyncio.to_thread(auditor.read_log)
        await self._kafka.check()
        auditor.check_answers(answers)
        auditor.findings += load.disagreements
        await self._ask_again()
        auditor.explain_all()
        self._count(answers)
        load.go_on()

    def _count(self, answers: list[Acknowledged]) -> None:
        report, auditor = self._report, self._auditor
        report.acknowledged += len(answers)
        report.repeats += sum(answer.reply.is_repeat for answer in answers)
        report.events, report.seconds = auditor.position, auditor.seconds
        self._old.extend(answers)

    async def _digest(self) -> StateDigest:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                return await self._load.digest()
            except EngineUnavailable:
                assert time.monotonic() < deadline, self._cluster.told()
            await asyncio.sleep(0.05)

    async def _ask_again(self) -> None:
        """Old keys give their first answers; with another body they give none."""
        asked = self._chance.sample(list(self._old), min(OLD_KEYS_ASKED, len(self._old)))
        for old in asked:
            again = await self._load.ask(old.command, old.key)
            if not again.is_repeat or not same_answer(again, old.reply):
                self._auditor.find(f"{old.key} was told {old.reply}, and again: {again}")
        for old in asked:
            if isinstance(old.command, DepositFunds) and isinstance(old.reply, Accepted):
                other = msgspec.structs.replace(old.command, amount_minor=2)
                again = await self._load.ask(other, old.key)
                if not _is_reused(again):
                    self._auditor.find(f"{old.key} with another body was told {again}")
                return


def _is_reused(reply: Accepted | Refused) -> bool:
    return (
        isinstance(reply, Refused) and reply.rejection.code is RejectionCode.IDEMPOTENCY_KEY_REUSED
    )


async def _pass(seconds: float) -> None:
    """A random instant is what is tested, so there is nothing to wait for."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().create_future()
