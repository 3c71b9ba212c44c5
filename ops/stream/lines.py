"""One readable line for each change of the stream; coloured where a terminal can show it.

Pure: changes in, rich Text out. Amounts are shown as they came, to their last decimal.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from rich.text import Text

from ops.stream.following import Change
from ops.stream.merging import kind_of
from schemas.publications import BalanceNow

CHANNEL_WIDTH = 16
BUY, SELL, BURN, MINED, NEWS = "green", "red", "dark_orange", "cyan", "yellow"
NOTHING = "nothing yet"
Words = str | tuple[str, str]
Data = Mapping[str, Any]


def line_of(change: Change, at_s: float) -> Text:
    """at_s: when it came, Unix time."""
    if change.kind == "lost":
        return _line(at_s, "", [(f"connection lost ({change.data}), coming back", NEWS)])
    if change.kind == "stale":
        return _line(at_s, "", [("the gateway cannot read its views: this may be old", NEWS)])
    if change.kind == "fresh":
        return _line(at_s, "", [("the gateway reads its views again", NEWS)])
    words = [("nothing was missed", NEWS)] if change.kind == "recovered" else _told(change)
    return _line(at_s, change.channel, words, offset=change.offset)


def computed_line(balance: BalanceNow, at_s: float) -> Text:
    """The balance that was computed here, from pulse and account."""
    return _line(at_s, "(balance)", _balance(msgspec.structs.asdict(balance)))


def _line(at_s: float, channel: str, words: Sequence[Words], offset: int | None = None) -> Text:
    clock = time.strftime("%H:%M:%S", time.gmtime(at_s))
    line = Text.assemble((clock, "dim"), " ", (f"{channel:<{CHANNEL_WIDTH}}", "bold"), no_wrap=True)
    for word in words:
        line.append(" ")
        line.append(*(word if isinstance(word, tuple) else (word,)))
    if offset is not None:
        line.append(f"  #{offset}", "dim")
    return line


def _told(change: Change) -> Sequence[Words]:
    kind = kind_of(change.channel)
    shown = change.data if change.state is None else change.state
    if shown is None:
        return [(NOTHING, "dim")]
    if change.kind == "snapshot" and kind in _SNAPSHOTS:
        return _SNAPSHOTS[kind](shown)
    return _WORDS[kind](shown) if kind in _WORDS else [str(shown)]


def _pulse(data: Data) -> list[Words]:
    words: list[Words] = [f"second {data['second']}", f"reward {data['reward']}"]
    words.append(f"weight {data['weight_total']}")
    return [*words, *((f"{market} {price}", BUY) for market, price in data["prices"].items())]


def _mining(data: Data) -> list[Words]:
    paid = f"{data['allocated']} of {data['pool']} {data['asset']}"
    return [(paid, MINED), f"reward {data['reward_per_second']}", f"weight {data['weight_total']}"]


def _ticker(data: Data) -> list[Words]:
    style = SELL if data["change"].startswith("-") else BUY
    words: list[Words] = [(f"last {data['last']} ({data['change']})", style)]
    words += [f"{name} {data[name]}" for name in ("high", "low", "volume")]
    return [*words, (f"burned {data['burned']}", BURN)]


def _trade(data: Data) -> list[Words]:
    style = BUY if data["taker_side"] == "buy" else SELL
    traded = f"{data['taker_side']} {data['quantity']} at {data['price']}"
    return [(traded, style), (f"burned {data['burned']}", BURN)]


def _trades(data: Data) -> list[Words]:
    items = data["items"]
    if not items:
        return [(NOTHING, "dim")]
    return [f"{len(items)} trades, the last:", *_trade(items[-1])]


def _depth(data: Data) -> list[Words]:
    bids, asks = data["bids"], data["asks"]
    best: list[Words] = []
    for name, levels, style in (("bid", bids, BUY), ("ask", asks, SELL)):
        best.append((f"{name} {levels[0][1]} at {levels[0][0]}" if levels else f"no {name}", style))
    return [*best, f"{len(bids)} and {len(asks)} levels"]


def _kline(data: Data) -> list[Words]:
    opened = time.strftime("%H:%M", time.gmtime(data["open_time"] / 1_000))
    prices = " ".join(data[name] for name in ("open", "high", "low", "close"))
    state = "closed" if data["closed"] else "open"
    return [f"{opened} {state}", (prices, BUY), f"volume {data['volume']}"]


def _burn(data: Data) -> list[Words]:
    for source in ("trade", "reserve"):
        if burn := data.get(source):
            return [(f"{burn['burned']} by {source}", BURN), f"ever {burn['burned_total']}"]
    minute = data["minute"]
    return [(f"{minute['burned']} in a minute", BURN), f"of this market {minute['cumulative']}"]


def _burns(data: Data) -> list[Words]:
    return [(f"{data['cumulative']} in this market", BURN), f"{len(data['items'])} minutes"]


def _account(data: Data) -> list[Words]:
    balances: list[Words] = [
        f"{held['asset']} {held['available']} (held {held['held']})" for held in data["balances"]
    ]
    return [data["user_id"], *balances, (f"weight {data['mining']['weight']}", MINED)]


def _balance(data: Data) -> list[Words]:
    words: list[Words] = [(f"{data['amount']} {data['asset']}", MINED)]
    words.append(f"({data['accrued']} accrued)")
    return [*words, *(f"= {value} by {market}" for market, value in data["values"].items())]


_WORDS: dict[str, Callable[[Data], Sequence[Words]]] = {
    "pulse": _pulse,
    "mining": _mining,
    "ticker": _ticker,
    "trades": _trade,
    "depth": _depth,
    "kline": _kline,
    "burns": _burn,
    "account": _account,
    "balance": _balance,
}
_SNAPSHOTS: dict[str, Callable[[Data], Sequence[Words]]] = {"trades": _trades, "burns": _burns}
