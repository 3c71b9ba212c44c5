"""Workers, Redis and Kafka hurt at random under load: nothing counted twice, nothing missing.

The seed is printed; DURIAN_CHAOS_SEED runs it again, DURIAN_CHAOS_KILLS sets how often the long
form kills a worker.
"""

import asyncio
import os
import random
import secrets
import sys
from pathlib import Path

import pytest

from schemas import views
from tests.chaos.view_auditor import offset_findings
from tests.chaos.view_drill import Report, ViewDrill
from tests.chaos.view_faults import ViewFault, draw_view_faults
from tests.fixtures._cluster import cluster

pytestmark = [pytest.mark.services, pytest.mark.chaos]

PROJECTIONS = (views.MARKET, views.MINING, views.ACCOUNTS, views.HISTORY)
SHORT_FAULTS = (
    ViewFault.KILL_WORKER,
    ViewFault.KILL_ALL_WORKERS,
    ViewFault.REBALANCE,
    ViewFault.AGE_REDIS,
    ViewFault.EMPTY_REDIS,
    ViewFault.KILL_REDIS,
    ViewFault.REMAKE_TOPICS,
    ViewFault.KILL_KAFKA,
)
LONG_KILLS = 50
LONG_OTHERS = 3
LONG_SECONDS_MAX = 2 * 3_600
SEED_BITS = 32


def run_drill(
    directory: Path, capsys: pytest.CaptureFixture[str], *, kills: int | None = None
) -> None:
    """kills: None for the short form. Prints the seed, each fault and the table."""
    seed = os.environ.get("DURIAN_CHAOS_SEED") or str(secrets.randbits(SEED_BITS))
    chance = random.Random(f"faults {seed}")
    if kills is None:
        faults = chance.sample(SHORT_FAULTS, len(SHORT_FAULTS))
    else:
        faults = list(draw_view_faults(chance, kills=kills, others=LONG_OTHERS))

    def tell(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    tell(f"\nseed {seed}, {len(faults)} faults")
    report = Report(seed=seed, outcomes=[], findings=[])
    with cluster(directory, projections=PROJECTIONS) as hurt:
        try:
            asyncio.run(ViewDrill(hurt, seed, report, tell).run(faults))
        finally:
            tell(report.text())
        assert not report.all_findings, "\n".join([*report.all_findings, hurt.told()])


def test_views_equal_the_log_after_each_kind_of_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_drill(tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS_MAX)
def test_views_equal_the_log_after_dozens_of_kills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_drill(tmp_path, capsys, kills=int(os.environ.get("DURIAN_CHAOS_KILLS") or LONG_KILLS))


@pytest.mark.parametrize(
    ("channel", "offsets", "is_fine"),
    [
        ("trades.M", [3, 4, 5], True),
        ("trades.M", [3, 5], False),
        ("trades.M", [3, 3], False),
        ("trades.M", [3, 4], False),  # the newest is 5
        ("pulse", [3, 7], True),
        ("pulse", [7, 3], False),
    ],
)
def test_auditor_sees_what_is_wrong_with_a_feed(
    channel: str, offsets: list[int], is_fine: bool
) -> None:
    assert (not list(offset_findings(channel, offsets, {b"trades.M": b"5"}))) is is_fine
