"""Months of UTC: the unit in which the history's tables are cut."""

from datetime import UTC, datetime

from projections.history.copying import TABLES
from projections.history.fold import HistoryBatch


def month_of(second: int) -> int:
    """First second of the month (UTC) that a Unix second falls into."""
    moment = datetime.fromtimestamp(second, UTC)
    return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp())


def months(batch: HistoryBatch) -> set[int]:
    """First seconds of the months that a batch's rows fall into.

    A table's rows of one batch are in the order of their seconds, but for minutes of several
    markets: each row that is not in the month of the row before is looked at.
    """
    found: set[int] = set()
    for table in TABLES.values():
        begins = ends = 0
        for row in table.rows(batch):
            second = table.second(row)
            if not begins <= second < ends:
                begins = month_of(second)
                ends = month_of(begins + 32 * 86_400)
                found.add(begins)
    return found
