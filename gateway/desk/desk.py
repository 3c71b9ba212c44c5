"""The administration's database and what is kept in it, by noun."""

import asyncio

from gateway.database import Database
from gateway.desk.approvals import Approvals
from gateway.desk.intents import Answer, Intents
from gateway.desk.jobs import Jobs
from gateway.desk.records import Records
from gateway.desk.withdrawals import Withdrawals


class Desk:
    """open() before use, close() at the end; PostgreSQL may be away in between.

    under_way: intents that this process carries out just now, by the id of their record.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.records = Records(database)
        self.intents = Intents(database)
        self.approvals = Approvals(database)
        self.jobs = Jobs(database)
        self.withdrawals = Withdrawals(database)
        self.under_way: dict[int, asyncio.Task[Answer]] = {}

    async def open(self) -> None:
        await self.database.open()

    async def close(self) -> None:
        await self.database.close()
