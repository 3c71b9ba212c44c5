"""The mining views a second time: each second's index from its reward and the grants in force.

Accrual is added up per user and second, never computed from entry points; so a user's entry
fraction, what settling pays and what a minute brought are all found another way than the folds do.
"""

from tests.model.naive_views import Log, Row, Views

MINING_DB = 1
SCALE = 2**64


class Miner:
    """grants: those in force. owed: all ever accrued, scaled. settled: whole units paid out."""

    def __init__(self) -> None:
        self.grants: dict[str, Row] = {}
        self.owed = 0
        self.settled = 0
        self.entry_index = 0
        self.entry_fraction = 0
        self.position = 0

    @property
    def weight(self) -> int:
        return sum(grant["weight"] for grant in self.grants.values())


class Mining:
    """The whole course of the mining: walk the log once, keep everything.

    indexes: (second, index after it). minutes: (user, minute's first second) -> whole units that
    the user accrued in it. faults: where the log itself contradicts its own arithmetic.
    """

    def __init__(self, log: Log) -> None:
        self.miners: dict[str, Miner] = {}
        self.index = self.carry = self.allocated = self.reward = self.weight_total = 0
        self.position = self.next_second = 0
        self.indexes: list[tuple[int, int]] = []
        self.minutes: dict[tuple[str, int], int] = {}
        self.faults: list[str] = []
        for row in log.rows:
            self.take(row)

    def take(self, row: Row) -> None:
        match row["type"]:
            case "mining_allocated":
                self._allocate(row)
            case "accrual_settled":
                self._settle(row)
            case "contribution_granted":
                grant = {name: row[name] for name in ("source", "weight", "expires_second")}
                self._change(row, grant)
            case "contribution_adjusted":
                miner = self._miner(row)
                before = miner.grants[row["grant_id"]]
                changed = {"weight": row["weight"], "expires_second": row["expires_second"]}
                self._change(row, {**before, **changed} if row["weight"] else None)
            case "contribution_expired":
                self._change(row, None)
            case "ledger_opened":
                self.position, self.next_second = row["position"], row["genesis_second"]
            case _:
                pass

    def _miner(self, row: Row) -> Miner:
        return self.miners.setdefault(row["user_id"], Miner())

    def _allocate(self, row: Row) -> None:
        self.weight_total = sum(miner.weight for miner in self.miners.values())
        self.reward = row["reward_minor"]
        if self.reward:
            step, self.carry = divmod(self.reward * SCALE + self.carry, self.weight_total)
            self.index += step
            self._accrue(step, row["second"])
        self.allocated += self.reward
        self.position, self.next_second = row["position"], row["second"] + 1
        self.indexes.append((row["second"], self.index))
        got = (row["index"], row["carry"], row["weight_total"], row["allocated_minor"])
        wanted = (self.index, self.carry, self.weight_total, self.allocated)
        if got != wanted:
            self.faults.append(f"second {row['second']}: log {got}, naive {wanted}")

    def _accrue(self, step: int, second: int) -> None:
        for user_id, miner in self.miners.items():
            before = miner.owed // SCALE
            miner.owed += miner.weight * step
            minute = (user_id, second // 60 * 60)
            self.minutes[minute] = self.minutes.get(minute, 0) + miner.owed // SCALE - before

    def _settle(self, row: Row) -> None:
        miner = self._miner(row)
        due = miner.owed // SCALE - miner.settled
        if row["amount_minor"] != due:
            self.faults.append(f"{row['position']}: settled {row['amount_minor']}, naive {due}")
        miner.settled += row["amount_minor"]
        self._restart(miner, row)

    def _change(self, row: Row, grant: Row | None) -> None:
        miner = self._miner(row)
        if grant is None:
            del miner.grants[row["grant_id"]]
        else:
            miner.grants[row["grant_id"]] = grant
        if miner.weight != row["weight_after"]:
            self.faults.append(f"{row['position']}: weight {miner.weight} is not as in the log")
        self._restart(miner, row)

    def _restart(self, miner: Miner, row: Row) -> None:
        miner.entry_index = self.index
        miner.entry_fraction = miner.owed - miner.settled * SCALE
        miner.position = row["position"]


def mining_views(log: Log) -> Views:
    """Everything that projection mining shows, by (database, key)."""
    mining = Mining(log)
    assert mining.faults == [], mining.faults[:5]
    return {
        (MINING_DB, "pool"): pool(log, mining),
        (MINING_DB, "emission"): {
            str(entry["from_second"]): entry["reward_minor"]
            for entry in log.of("emission_scheduled")
        },
        (MINING_DB, "marks"): {
            str(second - 59): index for second, index in mining.indexes if second % 60 == 59
        },
        (MINING_DB, "pulse"): pulse(log, mining),
    }


def pool(log: Log, mining: Mining) -> Row | None:
    if not log.of("ledger_opened"):
        return None
    (opened,) = log.of("ledger_opened")
    return {
        "asset_id": opened["mined_asset"],
        "scale": log.scale(opened["mined_asset"]),
        "genesis_second": opened["genesis_second"],
        "pool_minor": opened["pool_minor"],
        "allocated_minor": mining.allocated,
        "second": opened["genesis_second"] + len(mining.indexes) - 1,
        "reward_minor": mining.reward,
        "weight_total": mining.weight_total,
        "index": mining.index,
        "carry": mining.carry,
        "position": mining.position,
    }


def pulse(log: Log, mining: Mining) -> Row | None:
    """The newest second's, with the prices of now, as clients read them."""
    if not mining.indexes:
        return None
    (opened,) = log.of("ledger_opened")
    return {
        "second": mining.indexes[-1][0],
        "index": str(mining.index),
        "reward": whole_units(mining.reward, log.scale(opened["mined_asset"])),
        "weight_total": str(mining.weight_total),
        "prices": last_prices(log),
    }


def last_prices(log: Log) -> dict[str, str]:
    """By market; markets without a trade are absent."""
    return {
        trade["market_id"]: whole_units(trade["price_minor"], log.scale(trade["quote_asset"]))
        for trade in log.of("trade_executed")
    }


def whole_units(minor: int, scale: int) -> str:
    """Minor units as the decimal string that clients read."""
    digits = str(minor).rjust(scale + 1, "0")
    return f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
