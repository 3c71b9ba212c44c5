"""Which version of rwa_auth's schema this program works with, and the role that uses it.

The migrations beside it are run by `durian migrate`; this module knows no driver.
"""

from pathlib import Path

VERSION = "0001"
MIGRATIONS = Path(__file__).parent / "migrations"
ROLE = "durian_auth"
