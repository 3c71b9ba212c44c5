"""`durian bench failover` hands the lead over by each blow and reports all of them."""

import pytest

from ops.bench.failover import BLOWS, run_failover
from ops.demo.progress import LineTasks

pytestmark = [pytest.mark.services, pytest.mark.chaos]


def test_each_blow_is_survived_and_reported() -> None:
    report = run_failover(1, LineTasks(), least=1)
    assert [line.metric for line in report.rows] == [
        f"{blow.name}: {kind}, s" for blow in BLOWS for kind in ("worst", "median")
    ]
    # The frozen leader's lock lasts three seconds; nobody may lead before.
    frozen = next(line for line in report.rows if "SIGSTOP" in line.metric)
    assert 2.5 < frozen.ours < 10
