"""Placing, replacing and cancelling, naively: check on paper, then write the cash book."""

import msgspec

from schemas.commands import CancelAllOrders, CancelOrder, PlaceOrder, ReplaceOrder
from schemas.events import CancelReason
from schemas.rejections import RejectionCode
from tests.model.naive_exchange import (
    BPS,
    Plan,
    fee,
    has_bad_amounts,
    has_bad_fields,
    is_outside_band,
    plan,
    would_meet,
)
from tests.model.naive_mining import NaiveMining
from tests.model.naive_state import (
    NANOSECONDS,
    Books,
    Event,
    NaiveMarket,
    NaiveOrder,
    Refused,
    event,
    is_amount,
    refuse_first,
)

CLIENT_ID_SECONDS = 172_800


class NaiveTrading:
    """Accounts and orders. placed: every order there ever was."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.now_ns = 0
        self._opened: NaiveMining | None = None
        self.accounts: list[str] = []
        self.frozen: list[str] = []
        self.placed: list[NaiveOrder] = []
        self.order_count = 0
        self.trade_count = 0

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    @property
    def mining(self) -> NaiveMining:
        assert self._opened is not None
        return self._opened

    @property
    def _now_second(self) -> int:
        return self.now_ns // NANOSECONDS

    def _event(self, kind: str, **fields: object) -> Event:
        return event(kind, self.now_ns, **fields)

    def refuse_unless_active(self, user_id: str) -> None:
        refuse_first(
            unknown_account=user_id not in self.accounts, account_frozen=user_id in self.frozen
        )

    def settle(self, user_id: str, at_ns: int) -> list[Event]:
        happened = self.mining.settle(user_id, at_ns)
        for settled in happened:
            self.books.write(user_id, settled["asset_id"], settled["amount_minor"])
            self.books.write("<accrued>", settled["asset_id"], -settled["amount_minor"])
        return happened

    def could_spend(self, user_id: str, asset: str) -> int:
        accrued = self.mining.accrued(user_id) if asset == self.mining.asset_id else 0
        return self.books.available(user_id, asset) + accrued

    def settle_for(self, user_id: str, asset: str, needed: int, freed: int = 0) -> list[Event]:
        if self.books.available(user_id, asset) + freed >= needed:
            return []
        return self.settle(user_id, self.now_ns)

    def burned(self, asset: str, amount: int, at_ns: int, source: str, **of: object) -> Event:
        self.books.write("<burn>", asset, amount)
        named = {"user_id": None, "market_id": None, "trade_id": None} | of
        total = self.books.total("<burn>", asset)
        return event(
            "asset_burned",
            at_ns,
            asset_id=asset,
            source=source,
            amount_minor=amount,
            burned_total_minor=total,
            **named,
        )

    def place(self, order: PlaceOrder) -> list[Event]:
        return self._place(order, None)

    def _place(self, order: PlaceOrder, replaced: NaiveOrder | None) -> list[Event]:
        """replaced: is cancelled first if the order is accepted; what it frees counts."""
        market = self._checked_market(order)
        walk = plan(self.books, market, order)
        self._check_in_market(order, market, walk, replaced)
        cost, filled = walk.cost(market), walk.filled
        quantity = filled if order.quantity_minor is None else order.quantity_minor
        if order.side == "sell":
            asset, needed = market.spec.base_asset, quantity
        else:
            asset, price = market.spec.quote_asset, order.price_minor
            needed = cost if price is None else market.quote(price, quantity)
        freed = replaced.held if replaced is not None and replaced.held_asset == asset else 0
        has_too_little = self.could_spend(order.user_id, asset) + freed < needed
        refuse_first(insufficient_funds=has_too_little)
        happened = [self.close(replaced, "replaced")] if replaced is not None else []
        happened += self.settle_for(order.user_id, asset, needed)
        taker = self._opened_order(order, market, quantity)
        fields = msgspec.to_builtins(order)
        fields |= {"order_id": taker.order_id, "quantity_minor": quantity}
        fields |= {"held_asset": asset, "held_minor": needed}
        del fields["type"]
        happened.append(self._event("order_placed", **fields))
        for what, maker, step in walk.steps:
            if what == "cancel":
                happened.append(self.close(maker, "self_trade"))
            else:
                happened += self._trade(market, maker, taker, step)
        rests = order.order_type == "limit" and order.time_in_force == "gtc"
        if taker.leaves == 0:
            self._end(taker)
        elif walk.stopped is not None or not rests:
            happened.append(self.close(taker, walk.stopped or "unfilled"))
        return happened

    def _checked_market(self, order: PlaceOrder) -> NaiveMarket:
        market = self.books.market(order.market_id)
        refuse_first(
            invalid_amount=has_bad_amounts(order),
            invalid_order=has_bad_fields(order),
            unknown_market=market is None,
            unknown_account=order.user_id not in self.accounts,
            account_frozen=order.user_id in self.frozen,
            duplicate_client_order_id=self._is_used(order.user_id, order.client_order_id),
        )
        assert market is not None
        price, quantity, spec = order.price_minor, order.quantity_minor, market.spec
        refuse_first(
            market_halted=market.is_halted,
            price_off_tick=price is not None and price % spec.tick_minor != 0,
            quantity_off_lot=quantity is not None and quantity % spec.lot_minor != 0,
        )
        return market

    def _check_in_market(
        self, order: PlaceOrder, market: NaiveMarket, walk: Plan, replaced: NaiveOrder | None
    ) -> None:
        price, quantity, least = order.price_minor, order.quantity_minor, None
        if price is not None and quantity is not None:
            least = market.quote(price, quantity)
        elif order.quote_budget_minor is not None:
            least = order.quote_budget_minor
        resting = [o for o in self.books.open_orders(order.user_id, market) if o is not replaced]
        may_rest = order.order_type == "limit" and order.time_in_force == "gtc"
        makers = self.books.queue(market, "sell" if order.side == "buy" else "buy")
        meets = price is not None and any(would_meet(price, order.side, m) for m in makers)
        has_room = len(resting) < market.rules.open_orders_max
        refuse_first(
            price_outside_band=price is not None and is_outside_band(market, price),
            below_min_notional=least is not None and least < market.rules.min_notional_minor,
            too_many_open_orders=may_rest and not has_room,
            post_only_would_trade=order.post_only and meets,
            would_not_fill=order.time_in_force == "fok" and walk.left > 0,
            no_liquidity=order.order_type == "market" and walk.filled == 0,
        )

    def _is_used(self, user_id: str, client_order_id: str) -> bool:
        name = (user_id, client_order_id)
        return any(self._is_remembered(o) for o in self.placed if o.name == name)

    def _is_remembered(self, order: NaiveOrder) -> bool:
        """From its placement, or from the newest tick that found it open after the time was up."""
        since = order.placed_second
        while since + CLIENT_ID_SECONDS < self._now_second:
            since += CLIENT_ID_SECONDS + 1
            if order.closed_second is not None and order.closed_second < since:
                return False
        return True

    def _opened_order(self, order: PlaceOrder, market: NaiveMarket, quantity: int) -> NaiveOrder:
        self.order_count += 1
        opened = NaiveOrder(
            self.order_count,
            order.user_id,
            order.client_order_id,
            market,
            order.side,
            order.price_minor,
            quantity,
            order.post_only,
            order.self_trade_prevention,
            self._now_second,
        )
        self.placed.append(opened)
        self.books.orders.append(opened)
        return opened

    def _trade(
        self, market: NaiveMarket, maker: NaiveOrder, taker: NaiveOrder, quantity: int
    ) -> list[Event]:
        buy, sell = (taker, maker) if taker.side == "buy" else (maker, taker)
        base, quote_asset = market.spec.base_asset, market.spec.quote_asset
        price, rules = maker.price or 0, market.rules
        quote, burned = market.quote(price, quantity), quantity * rules.burn_bps // BPS
        maker_bps, taker_bps = rules.maker_fee_bps, rules.taker_fee_bps
        buyer_fee = fee(quantity - burned, taker_bps if buy is taker else maker_bps)
        seller_fee = fee(quote, taker_bps if sell is taker else maker_bps)
        above = 0 if buy.price is None else market.quote(buy.price - price, quantity)
        self.trade_count += 1
        for order in (maker, taker):
            order.leaves -= quantity
        if maker.leaves == 0:
            self._end(maker)
        market.trade_prices.append(price)
        self.books.write(sell.user_id, base, -quantity)
        self.books.write(buy.user_id, base, quantity - burned - buyer_fee)
        self.books.write(buy.user_id, quote_asset, -quote)
        self.books.write(sell.user_id, quote_asset, quote - seller_fee)
        self.books.write("<fees>", base, buyer_fee)
        self.books.write("<fees>", quote_asset, seller_fee)
        traded = self._event(
            "trade_executed",
            trade_id=self.trade_count,
            market_id=market.spec.market_id,
            base_asset=base,
            quote_asset=quote_asset,
            price_minor=price,
            quantity_minor=quantity,
            quote_minor=quote,
            burned_minor=burned,
            buyer_fee_minor=buyer_fee,
            seller_fee_minor=seller_fee,
            refund_minor=above,
            taker_side=taker.side,
            buyer_id=buy.user_id,
            seller_id=sell.user_id,
            maker_order_id=maker.order_id,
            taker_order_id=taker.order_id,
            maker_leaves_minor=maker.leaves,
            taker_leaves_minor=taker.leaves,
        )
        if burned == 0:
            return [traded]
        of = {"user_id": sell.user_id, "market_id": market.spec.market_id}
        at_ns, trade_id = self.now_ns, self.trade_count
        return [traded, self.burned(base, burned, at_ns, "trade", **of, trade_id=trade_id)]

    def _end(self, order: NaiveOrder) -> None:
        self.books.orders = [other for other in self.books.orders if other is not order]
        order.closed_second = self._now_second

    def close(self, order: NaiveOrder, reason: CancelReason) -> Event:
        self._end(order)
        return self._event(
            "order_cancelled",
            order_id=order.order_id,
            user_id=order.user_id,
            market_id=order.market.spec.market_id,
            reason=reason,
            leaves_minor=order.leaves,
            released_asset=order.held_asset,
            released_minor=order.held,
        )

    def _open_order(self, user_id: str, order_id: int) -> NaiveOrder | None:
        mine = self.books.open_orders(user_id)
        return next((order for order in mine if order.order_id == order_id), None)

    def cancel(self, command: CancelOrder) -> list[Event]:
        order = self._open_order(command.user_id, command.order_id)
        refuse_first(unknown_order=order is None)
        assert order is not None
        return [self.close(order, "requested")]

    def cancel_all(self, command: CancelAllOrders) -> list[Event]:
        market = None if command.market_id is None else self.books.market(command.market_id)
        is_unknown = command.market_id is not None and market is None
        mine = self.books.open_orders(command.user_id, market)
        refuse_first(unknown_market=is_unknown, no_open_orders=not mine)
        return [self.close(order, "requested") for order in mine]

    def replace(self, command: ReplaceOrder) -> list[Event]:
        user_id, price, quantity = command.user_id, command.price_minor, command.quantity_minor
        old = self._open_order(user_id, command.order_id)
        refuse_first(
            invalid_amount=not is_amount(price) or not is_amount(quantity),
            unknown_account=user_id not in self.accounts,
            account_frozen=user_id in self.frozen,
            unknown_order=old is None,
        )
        assert old is not None
        if price == old.price and quantity < old.leaves:
            return [self._shrunk(old, quantity)]
        order = PlaceOrder(
            user_id=user_id,
            client_order_id=command.new_client_order_id,
            market_id=old.market.spec.market_id,
            side=old.side,
            order_type="limit",
            post_only=old.post_only,
            self_trade_prevention=old.self_trade_prevention,
            price_minor=price,
            quantity_minor=quantity,
        )
        return self._place(order, old)

    def _shrunk(self, order: NaiveOrder, quantity: int) -> Event:
        market, held = order.market, order.held
        if quantity % market.spec.lot_minor != 0:
            raise Refused(RejectionCode.QUANTITY_OFF_LOT)
        notional = market.quote(order.price or 0, quantity)
        refuse_first(below_min_notional=notional < market.rules.min_notional_minor)
        order.leaves = quantity
        return self._event(
            "order_reduced",
            order_id=order.order_id,
            user_id=order.user_id,
            market_id=market.spec.market_id,
            leaves_minor=quantity,
            released_asset=order.held_asset,
            released_minor=held - order.held,
        )
