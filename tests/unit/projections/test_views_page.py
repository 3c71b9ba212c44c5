"""docs/views.md names every key that schemas.views can build and every key that folds write."""

import inspect
import re
from pathlib import Path

import pytest

from projections.fresh import FreshFold
from projections.memory import Stored
from schemas import views
from tests.fixtures.ledger_logs import positioned
from tests.fixtures.order_logs import OrderLog

PAGE = (Path(__file__).parents[3] / "docs" / "views.md").read_text(encoding="utf-8")
PLACEHOLDERS = {
    "market_id": "<market>", "asset_id": "<asset>", "user_id": "<user>",
    "interval": "<interval>", "projection": "<projection>", "partition": "<partition>",
}  # fmt: skip
ROW = re.compile(r"^\| `([^`]+)` \| ([\d, ]+) \| ([a-z ]+) \| ([a-z, ]+) \|", re.MULTILINE)
NAMES: dict[str, tuple[str, str, str, str]] = {found[0]: found for found in ROW.findall(PAGE)}
TYPES = {bytes: "string", dict: "hash", list: "list"}


def _patterns() -> set[str]:
    built = {
        build(**{name: PLACEHOLDERS[name] for name in inspect.signature(build).parameters})
        for name, build in vars(views).items()
        if name.endswith("_key") and name != "stored_key"
    }
    return built | {value for name, value in vars(views).items() if name.endswith("_KEY")}


def test_every_key_that_can_be_built_is_on_the_page_and_no_other() -> None:
    listed = set(re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE))
    assert _patterns() <= listed
    assert set(NAMES) <= _patterns()


def _type(stored: Stored) -> str:
    if isinstance(stored, dict) and any(isinstance(score, float) for score in stored.values()):
        return "sorted set"
    return TYPES[type(stored)]


@pytest.mark.parametrize("projection", [views.MARKET, views.MINING, views.ACCOUNTS])
def test_what_is_written_where_is_what_the_page_says(projection: str) -> None:
    found = set[tuple[int, str, str]]()
    for seed in range(4):
        log = OrderLog(seed).run(300).log
        stored = FreshFold(projection).fold_all(positioned(log)).views
        found |= {(place[0], _pattern(place[1]), _type(value)) for place, value in stored.items()}
    told = {
        (int(database), name, kind)
        for name, databases, kind, projections in NAMES.values()
        for database in databases.split(", ")
        if projection in projections.split(", ")
    }
    # state and offsets have one row for two projections.
    assert found <= told
    private = {name for _, name, _ in told if name.endswith("<projection>")}
    assert {row for row in told - found if row[1] not in private} == set()


def _pattern(key: str) -> str:
    for pattern in NAMES:
        expression = re.sub(r"<\w+>", "[^:]+", pattern)
        if re.fullmatch(expression, key):
            return pattern
    return key
