"""Two engines, a relay and their servers, hurt at random under load: nothing acknowledged is lost.

The seed is printed; DURIAN_CHAOS_SEED runs it again, DURIAN_CHAOS_FAULTS sets how many faults the
long form inflicts.
"""

import asyncio
import os
import secrets
import sys
from pathlib import Path

import pytest

from schemas import views
from tests.chaos.copies import final_differences
from tests.chaos.drill import Drill, Report
from tests.chaos.faults import Fault
from tests.fixtures._cluster import cluster

pytestmark = [pytest.mark.services, pytest.mark.chaos]

SHORT_FAULTS = len(Fault)
LONG_FAULTS = 200
LONG_SECONDS_MAX = 3 * 3_600
SEED_BITS = 32


def run_drill(
    directory: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    faults: int,
    projections: tuple[str, ...],
) -> None:
    """Prints the seed, each fault and the table; fails with the findings."""
    seed = os.environ.get("DURIAN_CHAOS_SEED") or str(secrets.randbits(SEED_BITS))

    def tell(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    tell(f"\nseed {seed}, {faults} faults")
    report = Report(seed=seed, outcomes=[])
    with cluster(directory, projections=projections) as hurt:
        try:
            asyncio.run(Drill(hurt, seed, report, tell).run(faults))
        finally:
            tell(report.text())
        assert not report.findings, "\n".join([*report.findings, hurt.told()])
        assert final_differences(hurt) == []


def test_each_kind_of_fault_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_drill(tmp_path, capsys, faults=SHORT_FAULTS, projections=(views.ACCOUNTS,))


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS_MAX)
def test_hundreds_of_faults_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = int(os.environ.get("DURIAN_CHAOS_FAULTS") or LONG_FAULTS)
    run_drill(tmp_path, capsys, faults=faults, projections=tuple(views.HOME_DB))
