"""How much Hypothesis tries, and which fixture plugins exist. Fixtures live in tests/fixtures/.

`--hypothesis-profile NAME` chooses: quick (default), ci, deep (what CI runs).
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

FIXTURES = Path(__file__).parent / "fixtures"

# pytest reads this name; a new file under tests/fixtures/ is a plugin without being listed.
pytest_plugins = [
    f"tests.fixtures.{file.stem}"
    for file in sorted(FIXTURES.glob("*.py"))
    if not file.stem.startswith("_")
]


@pytest.hookimpl(tryfirst=True)  # Hypothesis' own plugin then loads the one the command line names
def pytest_configure() -> None:
    # Machines that run several things at once miss deadlines for no fault of the code.
    slow_is_no_fault = [HealthCheck.too_slow]
    for name, examples in (("quick", 30), ("ci", 100), ("deep", 300)):
        settings.register_profile(
            name,
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            print_blob=True,
            suppress_health_check=slow_is_no_fault,
        )
    settings.load_profile("quick")
