"""The projection `mining`: pool, emission, per-minute index marks and the pulse, folded from
ledger.events.

Every second's index is recomputed with schemas.accrual, the arithmetic that phones repeat: a log
whose index does not follow from its rewards stops here, before anybody sees it.
"""

from typing import assert_never

import msgspec

from projections.batch import Batch, Publication
from projections.offsets import Offsets
from schemas import accrual, events, publications, views
from schemas.amounts import format_amount
from schemas.views import PoolView

MINUTE_SECONDS = 60
OFFSETS_PLACE = (views.MINING_DB, views.offsets_key(views.MINING))
STATE_PLACE = (views.MINING_DB, views.state_key(views.MINING))

encode = msgspec.json.Encoder().encode


class PoolState(msgspec.Struct, kw_only=True):
    """pool: None until the ledger is opened. prices: last price by market, as clients read it.

    pool repeats the view, so that a restart reads one key.
    """

    pool: PoolView | None = None
    scales: dict[str, int] = {}
    quote_scales: dict[str, int] = {}
    prices: dict[str, str] = {}


class PoolFold:
    """Folds events one by one; drain() gives what changed since the last drain."""

    __slots__ = ("_allocated", "_batch", "_changed", "_offsets", "_position", "_state")

    def __init__(
        self,
        state: PoolState | None = None,
        *,
        offsets: dict[str, bytes] | None = None,
        quiet: bool = False,
    ) -> None:
        self._batch = Batch()
        self._state = state or PoolState()
        self._offsets = Offsets(OFFSETS_PLACE, offsets, quiet=quiet)
        # The newest second since the last drain: its view is built once per batch, not per second.
        self._allocated: events.MiningAllocated | None = None
        self._position = 0
        self._changed = False

    def fold(self, position: int, event: events.LedgerEvent) -> None:
        """Add one event; position is the one after the last folded."""
        match event:
            case events.MiningAllocated():
                self._allocate(position, event)
            case events.TradeExecuted():
                scale = self._state.quote_scales[event.market_id]
                self._state.prices[event.market_id] = format_amount(event.price_minor, scale)
                self._changed = True
            case events.EmissionScheduled():
                place = (views.MINING_DB, views.EMISSION_KEY)
                self._batch.put_field(place, str(event.from_second), b"%d" % event.reward_minor)
            case events.LedgerOpened():
                self._open_ledger(position, event)
            case events.MarketOpened():
                scale = self._state.scales[event.quote_asset]
                self._state.quote_scales[event.market_id] = scale
                self._changed = True
            case (
                events.EpochStarted()
                | events.AccrualSettled()
                | events.ContributionGranted()
                | events.ContributionAdjusted()
                | events.ContributionExpired()
                | events.AccountOpened()
                | events.AccountFrozen()
                | events.AccountUnfrozen()
                | events.FundsDeposited()
                | events.FundsWithdrawn()
                | events.MarketConfigured()
                | events.MarketHalted()
                | events.MarketResumed()
                | events.ReserveBurnConfigured()
                | events.OrderPlaced()
                | events.OrderReduced()
                | events.OrderCancelled()
                | events.AssetBurned()
            ):
                pass
            case _:
                assert_never(event)

    def drain(self) -> Batch:
        """The writes since the last drain, with the pulse of the newest second only."""
        batch, self._batch = self._batch, Batch()
        is_new_second = self._allocated is not None
        if is_new_second:
            self._refresh()
        pool = self._state.pool
        if self._changed:
            batch.put(STATE_PLACE, encode(self._state))
            if pool is not None:
                batch.put((views.MINING_DB, views.POOL_KEY), encode(pool))
                self._put_pulse(batch, pool, is_new_second=is_new_second)
            self._changed = False
        self._offsets.drain(batch)
        return batch

    def _put_pulse(self, batch: Batch, pool: PoolView, *, is_new_second: bool) -> None:
        if pool.second < pool.genesis_second:
            return
        pulse = publications.Pulse(
            second=pool.second,
            index=str(pool.index),
            reward=format_amount(pool.reward_minor, pool.scale),
            weight_total=str(pool.weight_total),
            prices=self._state.prices,
        )
        content = encode(pulse)
        batch.put((views.MINING_DB, views.PULSE_KEY), content)
        # The view follows every price, so that it is the same wherever batches are cut.
        if is_new_second and not self._offsets.quiet:
            batch.publish(Publication("pulse", pool.second, content))

    def _allocate(self, position: int, event: events.MiningAllocated) -> None:
        self._check(event)
        self._allocated, self._position, self._changed = event, position, True
        into_minute = event.second % MINUTE_SECONDS
        if into_minute == MINUTE_SECONDS - 1:
            opened = event.second - into_minute
            place = (views.MINING_DB, views.MARKS_KEY)
            self._batch.put_field(place, str(opened), b"%d" % event.index)
        elif into_minute == 0:
            self._offsets.publish(self._batch, "mining", self._render_pool)

    def _render_pool(self) -> bytes:
        return encode(publications.mining_pool(self._refresh(keep=True)))

    def _check(self, event: events.MiningAllocated) -> None:
        pool = self._state.pool
        assert pool is not None, event
        before = self._allocated
        if before is None:
            second, allocated = pool.second, pool.allocated_minor
            index, carry = pool.index, pool.carry
        else:
            second, allocated = before.second, before.allocated_minor
            index, carry = before.index, before.carry
        if event.reward_minor:
            index, carry = accrual.advance(
                index=index,
                carry=carry,
                reward_minor=event.reward_minor,
                weight_total=event.weight_total,
            )
        assert event.second == second + 1, (event, second)
        assert event.allocated_minor == allocated + event.reward_minor, (event, allocated)
        assert (event.index, event.carry) == (index, carry), (event, index, carry)

    def _refresh(self, *, keep: bool = False) -> PoolView:
        """Bring the pool's view to the newest second; keep: that second still awaits its pulse."""
        pool, event = self._state.pool, self._allocated
        assert pool is not None and event is not None
        pool = self._state.pool = PoolView(
            asset_id=pool.asset_id,
            scale=pool.scale,
            genesis_second=pool.genesis_second,
            pool_minor=pool.pool_minor,
            allocated_minor=event.allocated_minor,
            second=event.second,
            reward_minor=event.reward_minor,
            weight_total=event.weight_total,
            index=event.index,
            carry=event.carry,
            position=self._position,
        )
        if not keep:
            self._allocated = None
        return pool

    def _open_ledger(self, position: int, event: events.LedgerOpened) -> None:
        self._state.scales = {asset.asset_id: asset.scale for asset in event.assets}
        self._state.pool = PoolView(
            asset_id=event.mined_asset,
            scale=self._state.scales[event.mined_asset],
            genesis_second=event.genesis_second,
            pool_minor=event.pool_minor,
            allocated_minor=0,
            second=event.genesis_second - 1,
            reward_minor=0,
            weight_total=0,
            index=0,
            carry=0,
            position=position,
        )
        self._changed = True
