"""Channel balance: what a user has of the mined asset each second, for clients without the
arithmetic.

Holds the few numbers of each watched user that the second's amount follows from. They come from a
read when somebody begins to watch, then from the accounts feed; the newer position wins. An account
that is newer than the pulse accrues nothing yet (schemas.accrual), so settling never shows less.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import msgspec

from gateway.catalogue import Catalogue
from gateway.errors import Refusal
from gateway.stream.channels import Kind, balance_key, private_channel
from gateway.stream.publication import Publication
from gateway.views import Views, partition_of_accounts
from schemas.accrual import accrued_minor
from schemas.amounts import AmountError, format_amount, parse_amount
from schemas.publications import BalanceNow, Pulse
from schemas.records import POSTINGS_PARTITIONS
from schemas.rejections import RejectionCode
from schemas.views import AccountView, BalanceView, ContributionView, MarketView

_encode = msgspec.json.Encoder().encode
_pulse = msgspec.json.Decoder(Pulse).decode
_NOTHING = BalanceView()


class Price(msgspec.Struct, frozen=True):
    """The last one of a market in which the mined asset is the base; scale: of its quote."""

    market_id: str
    price_minor: int
    scale: int


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """What the amounts of one second have in common. scale: of the mined asset."""

    second: int
    index: int
    asset_id: str
    scale: int
    prices: tuple[Price, ...]


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """One user's part. owned_minor: available and held."""

    owned_minor: int
    weight: int
    entry_index: int
    entry_fraction: int
    position: int


def holding(account: AccountView, contribution: ContributionView, asset_id: str) -> Holding:
    owned = account.balances.get(asset_id, _NOTHING)
    return Holding(
        owned_minor=owned.available + owned.held,
        weight=contribution.weight,
        entry_index=contribution.entry_index,
        entry_fraction=contribution.entry_fraction,
        position=max(account.position, contribution.position),
    )


def balance_now(held: Holding, moment: Moment) -> BalanceNow:
    accrued = accrued_minor(
        weight=held.weight,
        index=moment.index,
        entry_index=held.entry_index,
        entry_fraction=held.entry_fraction,
    )
    amount, unit = held.owned_minor + accrued, 10**moment.scale
    return BalanceNow(
        second=moment.second,
        asset=moment.asset_id,
        amount=format_amount(amount, moment.scale),
        accrued=format_amount(accrued, moment.scale),
        values={
            price.market_id: format_amount(amount * price.price_minor // unit, price.scale)
            for price in moment.prices
        },
    )


class Balances:
    """The watched users. forget() whatever was read before a feed began anew."""

    def __init__(self, views: Views, catalogue: Catalogue) -> None:
        self._views = views
        self._catalogue = catalogue
        self._holdings: dict[str, Holding] = {}
        self._asset_id: str | None = None
        # By partition: a read that began before forget() must not bring back what it found.
        self._versions = [0] * POSTINGS_PARTITIONS

    def is_empty(self) -> bool:
        return not self._holdings

    def version(self, user_id: str) -> int:
        """Another one after each forget() that the user is part of."""
        return self._versions[partition_of_accounts(user_id)]

    def forget(self, partition: int | None = None) -> None:
        """Of one partition of accounts, or everything, the mined asset included."""
        for begun in range(POSTINGS_PARTITIONS) if partition is None else (partition,):
            self._versions[begun] += 1
        if partition is None:
            self._asset_id = None
        self._holdings = {
            user_id: held
            for user_id, held in self._holdings.items()
            if partition is not None and partition_of_accounts(user_id) != partition
        }

    async def note(
        self, account: AccountView, contribution: ContributionView, version: int
    ) -> Holding:
        """Take a user's state, unless there is a newer one; returns the newer one.

        version: version() of the user at the time when the state was asked for.
        Raises ViewsUnavailable, and Refusal(ledger_not_open) before genesis.
        """
        new = holding(account, contribution, await self._mined_asset())
        if version != self.version(account.user_id):
            return new
        known = self._holdings.get(account.user_id)
        if known is None or known.position < new.position:
            known = self._holdings[account.user_id] = new
        return known

    async def moment(self, content: bytes) -> Moment:
        """content: wire JSON of a pulse. Raises as note does."""
        pulse, asset_id = _pulse(content), await self._mined_asset()
        markets = await self._catalogue.markets()
        return Moment(
            second=pulse.second,
            index=int(pulse.index),
            asset_id=asset_id,
            scale=await self._catalogue.mined_scale(),
            prices=tuple(_prices(pulse, [one for one in markets if one.base_asset == asset_id])),
        )

    def publications(
        self, moment: Moment, is_watched: Callable[[str], bool], *, size: int
    ) -> Iterator[list[Publication]]:
        """Everybody's, so many at a time; who is not watched any more is dropped."""
        part: list[Publication] = []
        for user_id in list(self._holdings):
            if not is_watched(balance_key(user_id)):
                self._holdings.pop(user_id, None)
                continue
            held = self._holdings.get(user_id)
            if held is None:  # forgotten while the parts before this one were sent
                continue
            content = _encode(balance_now(held, moment))
            channel = private_channel(Kind.BALANCE, user_id)
            part.append(Publication(channel, moment.second, content))
            if len(part) == size:
                yield part
                part = []
        if part:
            yield part

    async def _mined_asset(self) -> str:
        if self._asset_id is None:
            pool, _ = await self._views.pool()
            if pool is None:
                raise Refusal(RejectionCode.LEDGER_NOT_OPEN, "The ledger has no second yet.")
            self._asset_id = pool.asset_id
        return self._asset_id


def _prices(pulse: Pulse, markets: Sequence[MarketView]) -> Iterator[Price]:
    for market in markets:
        if market.market_id not in pulse.prices:
            continue
        # The catalogue may be of the ledger before, for seconds: no value beats a wrong one.
        with contextlib.suppress(AmountError):
            price = parse_amount(pulse.prices[market.market_id], market.quote_scale)
            yield Price(market.market_id, price, market.quote_scale)
