"""`durian watch CHANNEL…`: what the stream says, a line for each change, until it is enough."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.text import Text

from ops.commands.options import data_option, find_stack, json_option
from ops.commands.view import until_signal
from ops.datadir import DataDir
from ops.errors import ServerUnavailable, UsageError
from ops.status import running_state
from ops.stream.balance import BalanceClock
from ops.stream.client import StreamClient
from ops.stream.codec import CODECS, Encoding
from ops.stream.errors import StreamRefused
from ops.stream.following import Change
from ops.stream.lines import computed_line, line_of
from ops.stream.merging import ACCOUNT, PRIVATE, PULSE
from ops.tokens import has_keys, sign_token
from schemas.publications import BalanceNow
from schemas.views import INTERVAL_SECONDS
from schemas.wire import WireCode

FIRST_ANSWER_SECONDS_MAX = 10.0
TOKEN_LIFETIME_S = 900
MINING = "mining"
# What the gateway refuses because of what was typed.
OUR_FAULT = (WireCode.UNAUTHORIZED, WireCode.TOO_MANY_SUBSCRIPTIONS)
KNOWN_CHANNELS = (
    "there are pulse, mining, account, balance, and of each open market M ticker.M, trades.M,"
    f" depth.M, burns.M and kline.M.I with I one of {' '.join(INTERVAL_SECONDS)}"
)


@click.command()
@click.argument("channels", nargs=-1, required=True, metavar="CHANNEL…")
@click.option("--user", help="Whose account and balance: signs a token with the stack's key.")
@click.option("--token", help="A bearer token, for a stack whose key is elsewhere.")
@click.option("--url", help="ws:// or wss:// address of a stream, else that of the stack.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many lines.")
@click.option("--encoding", type=click.Choice(list(CODECS)), default="json", show_default=True)
@data_option
@json_option
def command(
    channels: tuple[str, ...],
    user: str | None,
    token: str | None,
    url: str | None,
    count: int | None,
    encoding: Encoding,
    data: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print channels of the stream: pulse, mining, ticker.M, trades.M, depth.M, kline.M.1m and
    burns.M of a market M; with --user also account and balance. With pulse and account together
    also the balance that follows from them, computed here each second.
    """
    data_dir = find_stack(data)
    source = _token_source(channels, user, token, data_dir)
    client = StreamClient(url or _stream_url(data_dir), encoding=encoding, token=source)
    show = Watch(print_json if as_json else _printer(), count)
    with contextlib.suppress(BrokenPipeError):  # the reader of our lines has had enough
        asyncio.run(until_signal(_watch(client, channels, show)))


def _token_source(
    channels: Sequence[str], user: str | None, token: str | None, data_dir: DataDir
) -> Callable[[], str] | None:
    if user is not None and token is not None:
        raise UsageError("--user and --token exclude each other")
    if token is not None:
        return lambda: token
    if user is not None:
        if not has_keys(data_dir):
            raise UsageError(f"no key to sign with in {data_dir.root}; pass a token with --token")
        return lambda: sign_token(data_dir, user=user, role="user", lifetime_s=TOKEN_LIFETIME_S)
    private = sorted(PRIVATE.intersection(channels))
    if private:
        raise UsageError(
            f"channel {private[0]} is private: say whose with --user, or pass a token with --token"
        )
    return None


def _stream_url(data_dir: DataDir) -> str:
    status = running_state(data_dir)
    if status is None:
        raise ServerUnavailable(f"nothing runs in {data_dir.root}; name a gateway with --url")
    for part in status.parts:
        if "stream" in part.addresses:
            return part.addresses["stream"]["url"]
    raise ServerUnavailable(f"no stream runs in {data_dir.root}")


class Watch:
    """What of the changes is printed: those asked for, and the balance that follows from them."""

    def __init__(self, show: Callable[[Change | BalanceNow], None], count: int | None) -> None:
        self._show = show
        self._left = count
        self._states: dict[str, Any] = {}

    def is_enough(self) -> bool:
        return self._left is not None and self._left <= 0

    def take(self, change: Change, shown: Sequence[str]) -> None:
        self._states[change.channel] = change.state
        if not change.channel or change.channel in shown:
            self._print(change)
        if change.channel == PULSE and ACCOUNT in shown and (balance := self._balance()):
            self._print(balance)

    def _balance(self) -> BalanceNow | None:
        pool, account = self._states.get(MINING), self._states.get(ACCOUNT)
        if pool is None or account is None or self._states[PULSE] is None:
            return None
        clock = BalanceClock(pool["asset"], pool["scale"])
        clock.take(PULSE, self._states[PULSE])
        clock.take(ACCOUNT, account)
        return clock.now()

    def _print(self, what: Change | BalanceNow) -> None:
        if not self.is_enough():
            self._show(what)
        if self._left is not None:
            self._left -= 1


async def _watch(client: StreamClient, channels: Sequence[str], watch: Watch) -> None:
    # Which asset is mined, and at which scale, only this channel says.
    computes = {PULSE, ACCOUNT} <= set(channels)
    async with client:
        await _subscribed(client, [MINING, *channels] if computes else channels)
        async for change in client:
            watch.take(change, channels)
            if watch.is_enough():
                return


async def _subscribed(client: StreamClient, channels: Sequence[str]) -> None:
    try:
        async with asyncio.timeout(FIRST_ANSWER_SECONDS_MAX):
            await client.subscribe(*channels)
    except TimeoutError as error:
        raise ServerUnavailable(
            "the gateway does not answer; if its stack is stopped, start it with `durian up`"
        ) from error
    except StreamRefused as refused:
        if refused.code == WireCode.UNKNOWN_CHANNEL:
            raise UsageError(f"{refused}; {KNOWN_CHANNELS}") from refused
        if refused.code in OUR_FAULT:
            raise UsageError(str(refused)) from refused
        raise


def print_json(what: Change | BalanceNow) -> None:
    """One object on a line; state: only where it says more than data."""
    if isinstance(what, BalanceNow):
        line: dict[str, Any] = {"kind": "computed", "channel": "balance", "data": what}
    else:
        line = msgspec.structs.asdict(what)
        if what.state is None or what.state == what.data:
            del line["state"]
    print(msgspec.json.encode(line).decode(), flush=True)


def _printer() -> Callable[[Change | BalanceNow], None]:
    console = Console()

    def show(what: Change | BalanceNow) -> None:
        line = _text(what)
        if console.is_terminal:
            console.print(line, soft_wrap=True, highlight=False)
        else:
            print(line.plain, file=sys.stdout, flush=True)

    return show


def _text(what: Change | BalanceNow) -> Text:
    if isinstance(what, BalanceNow):
        return computed_line(what, time.time())
    return line_of(what, time.time())
