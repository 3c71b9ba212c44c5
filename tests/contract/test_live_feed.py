"""The live view's picture kept up to date from the real gateway."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from gateway.stream.close_codes import CloseCode
from ops.config import Config
from ops.errors import ServerUnavailable
from ops.live import feed
from ops.live.feed import Reader, follow_stream
from ops.live.picture import Picture
from ops.stream.following import Change
from schemas.commands import OpenMarket
from tests.fixtures._gateway_line import Line, running_line
from tests.fixtures._stream_gateway import until
from tests.fixtures._traded_line import MARKET, place

pytestmark = pytest.mark.services


def config_of(line: Line) -> Config:
    ports = {name: urlsplit(url).port or 0 for name, url in line.urls.items()}
    return msgspec.structs.replace(
        line.config, ports=msgspec.structs.replace(line.config.ports, **ports)
    )


async def trade(line: Line, number: int) -> None:
    place(line, "maker", "sell", number)
    place(line, "taker", "buy", number)
    line.engine.pass_seconds(1)
    await line.views.project()


def test_the_picture_shows_whole_states_of_channels_that_send_changes(
    view_redis: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MARKETS_POLL_S", 0.1)

    async def story(line: Line) -> None:
        picture, config = Picture(), config_of(line)
        async with Reader(config) as reader:
            following = asyncio.create_task(follow_stream(config, picture, reader))
            try:
                await until(lambda: picture.pulse is not None and MARKET in picture.markets)
                for number in range(1, 4):
                    await trade(line, number)
                market = picture.markets[MARKET]
                await until(lambda: market.ticker is not None and market.ticker.trade_count == 3)
                await until(lambda: len(market.trades) == 3 and len(market.burns) == 3)
                await until(
                    lambda: picture.pulse is not None and picture.pulse.second == line.engine.second
                )
                assert picture.pulse is not None
                assert picture.pulse.prices == {MARKET: "1.00030000"}
                assert (picture.link, picture.trouble) == ("live", "")
                await hears_of_a_new_market(line, picture)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def told() -> None:
        async with running_line(view_redis, tmp_path, ("trading", "stream")) as line:
            line.fund("maker", "taker")
            await line.views.project()
            await story(line)

    asyncio.run(told())


async def hears_of_a_new_market(line: Line, picture: Picture) -> None:
    opened = OpenMarket(
        market_id="NEW", base_asset="DUR", quote_asset="CNY", tick_minor=10**4, lot_minor=10**4
    )
    line.engine.accept(opened)
    line.engine.pass_seconds(1)
    await line.views.project()
    await until(lambda: "NEW" in picture.markets)


def test_a_stream_that_refuses_us_ends_the_view(view_redis: str, tmp_path: Path) -> None:
    async def told() -> None:
        async with running_line(view_redis, tmp_path, ("trading",)) as line:
            config, picture = config_of(line), Picture()
            at_the_wrong_door = msgspec.structs.replace(
                config, ports=msgspec.structs.replace(config.ports, stream=config.ports.trading)
            )
            async with Reader(config) as reader:
                with pytest.raises(ServerUnavailable):
                    await follow_stream(at_the_wrong_door, picture, reader)

    asyncio.run(told())


@pytest.mark.parametrize(
    ("change", "link", "trouble"),
    [
        (Change(kind="lost", data=CloseCode.GOING_AWAY.reason), "reconnecting", "going_away"),
        (Change(kind="stale"), "live", "what is shown may be old"),
        (Change(kind="fresh"), "live", ""),
        (Change(kind="recovered", channel="pulse", epoch="a", offset=3), "live", ""),
    ],
)
def test_the_picture_says_how_the_stream_is(change: Change, link: str, trouble: str) -> None:
    picture = Picture()
    feed.apply(Change(kind="snapshot", channel="pulse", epoch="a", offset=1), picture)
    assert picture.link == "live"
    feed.apply(change, picture)
    assert (picture.link, picture.trouble) == (link, trouble)
