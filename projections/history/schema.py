"""Which version of the history's schema this program works with, and the roles that use it.

The migrations beside it are run by `durian migrate`; this module knows no driver.
"""

from pathlib import Path

HISTORY_SCHEMA_VERSION = "0001"
MIGRATIONS = Path(__file__).parent / "migrations"
WRITER_ROLE = "durian_history_writer"
READER_ROLE = "durian_history_reader"
GENERATIONS_TABLE = "public.history_generations"


def schema_of(generation: str) -> str:
    """The schema that holds a generation's tables, quoted for SQL.

    Raises ValueError for a name that is no generation's: names are whole numbers.
    """
    if not (generation.isascii() and generation.isdigit()):
        raise ValueError(f"{generation!r} is no generation of the history")
    return f'"history_{generation}"'
