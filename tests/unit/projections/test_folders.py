"""Reading a projection's state back from its views."""

import asyncio

import pytest

from projections.errors import RecordBroken, ViewBroken
from projections.folders import EffectFolder, restore_markets, restore_pool
from projections.markets import STATE_PLACE
from projections.memory import MemoryViews
from schemas.records import RecordHead


def test_empty_store_gives_empty_folds() -> None:
    reader = MemoryViews()
    assert asyncio.run(restore_markets(reader)).drain().publications == []
    assert asyncio.run(restore_pool(reader)).drain().publications == []


def test_state_of_another_shape_raises() -> None:
    reader = MemoryViews()
    reader.views[STATE_PLACE] = b'{"scales":7}'
    with pytest.raises(ViewBroken, match="MarketsState"):
        asyncio.run(restore_markets(reader))


def test_effect_outside_its_records_positions_raises() -> None:
    line = b'{"position":9,"at_ns":0,"user_id":"u","event_type":"t"}'
    head = RecordHead(first=1, last=3, sequence=1)
    with pytest.raises(RecordBroken):
        asyncio.run(EffectFolder().fold(head, line, after=0, reader=MemoryViews()))
