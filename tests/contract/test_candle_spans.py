"""gateway.candles.candle_span on a real Redis: what it remembers never changes what it answers."""

import asyncio
import random

import msgspec
import pytest
import redis

from gateway.candles import Span, candle_span
from gateway.views import Views
from schemas import views
from schemas.views import INTERVAL_SECONDS, Candle, open_second

pytestmark = pytest.mark.services

MARKET_ID = "DUR-CNY"
BEGAN = 1_795_392_000
# From a minute to most of a year, and back to nothing when the views are folded anew.
STEPS_S = (0, 1, 59, 60, 480, 3_600, 90_000, 700_000, 20_000_000)


class Folded:
    """Writes what the market's fold would have at a second, the candles of long ages left out."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client

    def _stored(self, name: str) -> str:
        return views.stored_key(views.MARKET, views.FIRST_GENERATION, name)

    def begin(self, epoch: str) -> None:
        self._client.flushdb()
        self._client.hset(self._stored(views.checkpoint_key(views.MARKET, 0)), "epoch", epoch)

    def write(self, first: int, last: int) -> None:
        """Candles from the first trade's to the last second's."""
        for interval, width in INTERVAL_SECONDS.items():
            start, end = open_second(first, interval), open_second(last, interval)
            # Enough of both ends for every walk: those between are only looked at by a page.
            ends = {*range(start, min(start + 800 * width, end + 1), width)}
            ends |= {*range(max(start, end - 800 * width), end + 1, width)}
            candles = {
                str(second): msgspec.json.encode(
                    Candle(open_second=second, open=1, high=1, low=1, close=1)
                )
                for second in ends
            }
            key = self._stored(views.kline_key(MARKET_ID, interval))
            self._client.delete(key)
            self._client.hset(key, mapping=candles)


@pytest.mark.parametrize("seed", range(3))
def test_a_span_that_is_remembered_is_the_one_that_is_there(view_redis: str, seed: int) -> None:
    chance = random.Random(seed)
    url = f"{view_redis}/{views.TRADING_DB}"

    async def scenario(client: "redis.Redis") -> None:
        folded, remembering = Folded(client), Views(view_redis)
        first, last = BEGAN, BEGAN
        folded.begin("a0")
        assert await candle_span(remembering, MARKET_ID, "1m") is None
        for number in range(25):
            last += chance.choice(STEPS_S)
            if chance.random() < 0.2:
                folded.begin(f"a{number + 1}")
                first = last = BEGAN + chance.randrange(1_000_000)
            folded.write(first, last)
            for interval in INTERVAL_SECONDS:
                expected = Span(open_second(first, interval), open_second(last, interval))
                assert await candle_span(remembering, MARKET_ID, interval) == expected
        await remembering.close()

    with redis.Redis.from_url(url) as client:
        asyncio.run(scenario(client))
