"""Commands and genesis files as they arrive: typing mistakes surface, defaults are stated."""

from typing import Any

import msgspec
import pytest

from schemas import commands, frames
from schemas.genesis import Genesis

DEPOSIT = {
    "type": "deposit_funds", "user_id": "a", "asset_id": "A", "amount_minor": 1, "reference": "r",
}  # fmt: skip


def _request(command: dict[str, Any]) -> frames.Request:
    return msgspec.json.decode(
        msgspec.json.encode({"id": 1, "command": command}), type=frames.Request
    )


def test_request_carries_a_command() -> None:
    assert _request(DEPOSIT).command == commands.DepositFunds(
        user_id="a", asset_id="A", amount_minor=1, reference="r"
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"amount": 1}, "unknown field `amount`"),
        ({"type": "deposit"}, "Invalid value 'deposit'"),
        ({"amount_minor": "1"}, r"Expected `int`, got `str` - at `\$.command.amount_minor`"),
        ({"amount_minor": 1.5}, "Expected `int`"),
        ({"user_id": None}, "Expected `str`"),
    ],
)
def test_request_with_a_mistake_names_the_field(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        _request(DEPOSIT | change)


def test_request_lists_every_command_once() -> None:
    union = commands.LedgerCommand.__args__
    tags = [kind.__struct_config__.tag for kind in (*union, frames.AdvanceClock)]
    assert len(set(tags)) == len(tags) == 20
    assert all(kind.__struct_config__.forbid_unknown_fields for kind in union)


def test_frame_is_its_length_and_its_body() -> None:
    assert frames.pack_frame(b"") == b"\0\0\0\0"
    assert frames.pack_frame(b"{}") == b"\0\0\0\2{}"
    largest = bytes(frames.FRAME_BYTES_MAX)
    assert len(frames.pack_frame(largest)) == len(largest) + 4
    with pytest.raises(ValueError, match=f"at most {frames.FRAME_BYTES_MAX}"):
        frames.pack_frame(largest + b"x")


def test_answer_with_stored_payloads_reads_as_the_answer_with_events() -> None:
    payload = b'{"type":"account_opened","v":1,"at_ns":1,"user_id":"a"}'
    stored = frames.AcceptedStored(id=7, last_position=9, events=(msgspec.Raw(payload),))
    read = msgspec.json.decode(msgspec.json.encode(stored), type=frames.Reply)
    assert isinstance(read, frames.Accepted)
    assert (read.id, read.last_position, read.events[0].at_ns) == (7, 9, 1)


def test_genesis_without_a_file_has_a_market_whose_prices_are_exact() -> None:
    genesis = msgspec.json.decode(b"{}", type=Genesis)
    assert genesis == Genesis()
    assert genesis.genesis_second is None
    (market,) = genesis.markets
    scales = {asset.asset_id: asset.scale for asset in genesis.assets}
    assert market.tick_minor * market.lot_minor % 10 ** scales[market.base_asset] == 0
    # Four years of halvings spend less than the pool.
    starts = [entry.after_seconds for entry in genesis.emission]
    paid = sum(
        (end - entry.after_seconds) * entry.reward_minor
        for entry, end in zip(genesis.emission, starts[1:], strict=False)
    )
    assert paid < genesis.pool_minor


def test_genesis_opens_the_ledger_then_its_markets() -> None:
    genesis = Genesis(treasury_minor=5)
    opening, *markets = genesis.commands(7)
    assert isinstance(opening, commands.OpenLedger)
    assert (opening.genesis_second, opening.treasury_minor) == (7, 5)
    assert (opening.mined_asset, opening.pool_minor) == (genesis.mined_asset, genesis.pool_minor)
    assert (opening.assets, opening.emission) == (genesis.assets, genesis.emission)
    assert tuple(markets) == genesis.markets


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b'{"pool":1}', "unknown field `pool`"),
        (b'{"emission":[{"after":1,"reward_minor":1}]}', "unknown field `after`"),
        (b'{"markets":[{"type":"open_account","user_id":"a"}]}', "Invalid value 'open_account'"),
        (b'{"assets":[{"asset_id":"A"}]}', "missing required field `scale`"),
    ],
)
def test_genesis_file_with_a_mistake_names_the_field(text: bytes, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.json.decode(text, type=Genesis)
