"""Which version of the administration's schema this program works with, and the role that uses it.

The migrations beside it are run by `durian migrate`; this module knows no driver.
"""

from pathlib import Path
from typing import Final

MIGRATIONS: Final = Path(__file__).parent / "migrations"
VERSION: Final = "0002"
ROLE: Final = "durian_desk"
