"""What a new ledger starts from: read once, from a file, when the log is empty."""

import msgspec

from schemas.commands import EmissionEntry, OpenLedger, OpenMarket
from schemas.events import AssetSpec, MarketRules


class Genesis(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """genesis_second: None means the second in which the engine first starts."""

    genesis_second: int | None = None
    mined_asset: str = "DUR"
    pool_minor: int = 63_072_000_00000000
    treasury_minor: int = 0
    assets: tuple[AssetSpec, ...] = (
        AssetSpec(asset_id="DUR", scale=8),
        AssetSpec(asset_id="CNY", scale=8),
    )
    emission: tuple[EmissionEntry, ...] = (
        EmissionEntry(after_seconds=0, reward_minor=1_00000000),
        EmissionEntry(after_seconds=31_536_000, reward_minor=50000000),
        EmissionEntry(after_seconds=63_072_000, reward_minor=25000000),
        EmissionEntry(after_seconds=94_608_000, reward_minor=12500000),
    )
    markets: tuple[OpenMarket, ...] = (
        OpenMarket(
            market_id="DUR-CNY",
            base_asset="DUR",
            quote_asset="CNY",
            tick_minor=10_000,
            lot_minor=10_000,
            rules=MarketRules(burn_bps=10),
        ),
    )

    def commands(self, genesis_second: int) -> tuple[OpenLedger | OpenMarket, ...]:
        """What opens this ledger, in order. genesis_second: what None stands for here."""
        opening = OpenLedger(
            genesis_second=genesis_second,
            mined_asset=self.mined_asset,
            pool_minor=self.pool_minor,
            treasury_minor=self.treasury_minor,
            assets=self.assets,
            emission=self.emission,
        )
        return (opening, *self.markets)
