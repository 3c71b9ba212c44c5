"""Assets and markets as the gateway last read them from the views; asked for on every amount.

Refreshed when something unknown is asked for, and when older than CATALOGUE_SECONDS_MAX, so that a
ledger started anew behind a running gateway does not meet another ledger's scales for long.
"""

import asyncio

from gateway.errors import Refusal
from gateway.views import Views
from schemas.rejections import RejectionCode
from schemas.views import AssetView, MarketView

CATALOGUE_SECONDS_MAX = 5.0


class Catalogue:
    def __init__(self, views: Views) -> None:
        self._views = views
        self._assets: dict[str, AssetView] = {}
        self._markets: dict[str, MarketView] = {}
        self._mined_scale: int | None = None
        self._read_at = float("-inf")
        self._turn = asyncio.Lock()

    def has_market(self, market_id: str) -> bool:
        """Whether it was there at the last refresh."""
        return market_id in self._markets

    def is_empty(self) -> bool:
        """Whether the views knew no asset, and so no ledger, at the last refresh."""
        return not self._assets

    async def look_again(self, *, pause: float) -> None:
        """Read what is there now, but so many seconds after the read before at the earliest."""
        waited = self._read_at + pause - asyncio.get_running_loop().time()
        if waited > 0:
            await asyncio.sleep(waited)
        await self.refresh()

    async def refresh(self, *, older_than: float = 0.0) -> None:
        """Read again if what we have is at least so many seconds old.

        However many ask at once, one of them reads.
        """
        loop = asyncio.get_running_loop()
        asked = loop.time()
        if asked - self._read_at < older_than:
            return
        async with self._turn:
            if self._read_at >= asked:
                return
            began = loop.time()
            self._assets, self._markets = await self._views.assets_and_markets()
            pool, _ = await self._views.pool()
            self._mined_scale = pool.scale if pool else None
            self._read_at = began

    async def market(self, market_id: str) -> MarketView:
        """Raises Refusal(unknown_market)."""
        await self.refresh(older_than=CATALOGUE_SECONDS_MAX)
        if market_id not in self._markets:
            await self.refresh()
        market = self._markets.get(market_id)
        if market is None:
            raise Refusal(
                RejectionCode.UNKNOWN_MARKET, f"No market {market_id}.", {"market": market_id}
            )
        return market

    async def markets(self) -> list[MarketView]:
        """All, by id."""
        await self.refresh(older_than=CATALOGUE_SECONDS_MAX)
        return [self._markets[market_id] for market_id in sorted(self._markets)]

    async def mined_scale(self) -> int:
        """Decimals of the mined asset. Raises Refusal(ledger_not_open) before genesis."""
        await self.refresh(older_than=CATALOGUE_SECONDS_MAX)
        if self._mined_scale is None:
            await self.refresh()
        if self._mined_scale is None:
            raise Refusal(RejectionCode.LEDGER_NOT_OPEN, "The ledger has no second yet.")
        return self._mined_scale

    async def scale(self, asset_id: str) -> int:
        """Decimals of an asset. Raises Refusal(unknown_asset)."""
        return (await self.scales([asset_id]))[asset_id]

    async def scales(self, asset_ids: list[str]) -> dict[str, int]:
        """Decimals of each. Raises Refusal(unknown_asset)."""
        await self.refresh(older_than=CATALOGUE_SECONDS_MAX)
        if any(asset_id not in self._assets for asset_id in asset_ids):
            await self.refresh()
        for asset_id in asset_ids:
            if asset_id not in self._assets:
                raise Refusal(
                    RejectionCode.UNKNOWN_ASSET, f"No asset {asset_id}.", {"asset": asset_id}
                )
        return {asset_id: self._assets[asset_id].scale for asset_id in asset_ids}
