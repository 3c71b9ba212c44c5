"""Which stream an event belongs to: the ledger's, mining's, a user's or a market's."""

from pathlib import Path

import pytest

from schemas.codecs import decode_event
from schemas.events import EVENT_TYPES
from schemas.streams import stream_id

SAMPLES = Path(__file__).parents[2] / "contract" / "samples"
STREAMS = {
    "epoch_started": "ledger",
    "ledger_opened": "ledger",
    "emission_scheduled": "ledger",
    "reserve_burn_configured": "ledger",
    "mining_allocated": "mining",
    "market_opened": "market:DUR-CNY",
    "market_configured": "market:DUR-CNY",
    "market_halted": "market:DUR-CNY",
    "market_resumed": "market:DUR-CNY",
    "trade_executed": "market:DUR-CNY",
    "asset_burned": "market:DUR-CNY",
    "account_opened": "user:seller",
    "account_frozen": "user:buyer",
    "account_unfrozen": "user:buyer",
    "funds_deposited": "user:seller",
    "funds_withdrawn": "user:seller",
    "accrual_settled": "user:seller",
    "contribution_granted": "user:seller",
    "contribution_adjusted": "user:seller",
    "contribution_expired": "user:seller",
    "order_placed": "user:buyer",
    "order_reduced": "user:buyer",
    "order_cancelled": "user:buyer",
}


@pytest.mark.parametrize("tag", STREAMS)
def test_event_belongs_to_its_stream(tag: str) -> None:
    event = decode_event((SAMPLES / f"{tag}.v1.json").read_bytes())
    assert stream_id(event) == STREAMS[tag]


def test_the_table_names_every_event() -> None:
    assert {str(kind.__struct_config__.tag) for kind in EVENT_TYPES} == set(STREAMS)


def test_a_reserve_burn_belongs_to_no_market() -> None:
    event = decode_event((SAMPLES / "asset_burned.v1.reserve.json").read_bytes())
    assert stream_id(event) == "ledger"
