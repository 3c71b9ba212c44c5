"""gateway.outbox: order kept, newest wins where asked, overflow is final."""

import asyncio

from gateway.outbox import Outbox


def taken(outbox: Outbox) -> list[str]:
    return asyncio.run(outbox.take())


def test_frames_come_out_in_order() -> None:
    async def story() -> None:
        outbox = Outbox()
        assert outbox.push("a")
        assert outbox.push("b")
        assert await outbox.take() == ["a", "b"]
        taking = asyncio.create_task(outbox.take())
        assert outbox.push("c")
        assert await taking == ["c"]

    asyncio.run(story())


def test_the_newest_frame_of_a_key_takes_the_place_of_the_unsent_one() -> None:
    outbox = Outbox(frames_max=3)
    for number in range(100):
        assert outbox.push(f"pulse{number}", "pulse")
        assert outbox.push(f"ticker{number}", "ticker")
    assert outbox.push("trade")
    assert outbox.room() == 0
    assert taken(outbox) == ["pulse99", "ticker99", "trade"]


def test_a_sent_frame_is_not_replaced() -> None:
    outbox = Outbox()
    outbox.push("pulse1", "pulse")
    assert taken(outbox) == ["pulse1"]
    outbox.push("pulse2", "pulse")
    assert taken(outbox) == ["pulse2"]


def test_a_forgotten_key_queues_behind() -> None:
    outbox = Outbox()
    outbox.push("old", "pulse")
    outbox.forget("pulse")
    outbox.push("snapshot")
    outbox.push("new", "pulse")
    assert taken(outbox) == ["old", "snapshot", "new"]


def test_too_many_frames_overflow_for_good() -> None:
    outbox = Outbox(frames_max=2)
    assert outbox.push("a")
    assert outbox.push("b")
    assert not outbox.push("c")
    assert outbox.is_overflowed
    assert not outbox.push("d")


def test_too_many_characters_overflow() -> None:
    outbox = Outbox(chars_max=10)
    assert outbox.push("12345", "key")
    assert outbox.push("1234567890", "key")
    assert not outbox.push("1")


def test_replacing_counts_the_difference_only() -> None:
    outbox = Outbox(chars_max=10)
    for _ in range(100):
        assert outbox.push("1234567890", "key")
        assert outbox.push("12345", "key")
