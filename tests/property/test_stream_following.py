"""Whatever a gateway loses, repeats or cuts off, a client takes each publication once, in order."""

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ops.stream.errors import StreamBroken
from ops.stream.following import Change, Following, Hole
from schemas.wire import Pub, Recovered, Since, Snapshot

NOTHING: Any = b"null"
TRADES = "trades.DUR-CNY"


class Gateway:
    """Publishes 1, 2, 3 … of one channel, and answers a subscription as the real one does."""

    def __init__(self) -> None:
        self.epoch = "1"
        self.offset = 0
        self.forgotten = 0

    def answer(self, since: Since | None) -> list[Snapshot | Recovered | Pub]:
        if since is None or since.epoch != self.epoch or since.offset < self.forgotten:
            return [Snapshot(ch=TRADES, epoch=self.epoch, offset=self.offset, data=NOTHING)]
        missed = range(since.offset + 1, self.offset + 1)
        end = Recovered(ch=TRADES, epoch=self.epoch, offset=self.offset)
        return [*(self.publication(offset) for offset in missed), end]

    def publication(self, offset: int) -> Pub:
        return Pub(ch=TRADES, offset=offset, data=NOTHING)


class Client:
    """taken: epoch and offset of each snapshot and publication, as its user was told."""

    def __init__(self, gateway: Gateway) -> None:
        self.following = Following()
        self.taken: list[tuple[str, str, int]] = []
        self._gateway = gateway
        self._requests = 0

    def ask(self, heard_of_it: int | None = None) -> None:
        """Subscribe anew; only so many messages of the answer arrive before a cut."""
        self._requests += 1
        asked = self.following.ask([TRADES], self._requests)
        self.following.granted([TRADES], self._requests)
        for message in self._gateway.answer(asked.channels[0].since)[:heard_of_it]:
            self.hear(message)

    def hear(self, message: Snapshot | Recovered | Pub) -> None:
        heard: Change | Hole | None
        match message:
            case Snapshot():
                heard = self.following.snapshot(message, {"items": []})
            case Recovered():
                heard = self.following.recovered(message)
            case Pub():
                heard = self.following.publication(message, {"trade_id": message.offset})
        if isinstance(heard, Hole):
            self.ask()
        elif heard is not None and heard.kind != "recovered":
            self.taken.append((heard.kind, heard.epoch, heard.offset))


_steps = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["lose", "repeat", "restart", "forget"]), st.just(0)),
    st.tuples(st.just("cut"), st.integers(0, 4)),
)


@given(st.lists(_steps, max_size=60))
def test_publications_are_taken_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    gateway = Gateway()
    client = Client(gateway)
    client.ask()
    try:
        for step, count in steps:
            carry_out(step, count, gateway, client)
    except StreamBroken:
        pass  # a gateway that loses again and again is given up, which is no silence
    else:
        client.ask()
        assert client.following.is_settled(TRADES)
        assert client.taken[-1][1:] == (gateway.epoch, gateway.offset)
    for before, after in itertools.pairwise(client.taken):
        kind, epoch, offset = after
        assert kind == "snapshot" or (epoch, offset) == (before[1], before[2] + 1)


def carry_out(step: str, count: int, gateway: Gateway, client: Client) -> None:
    match step:
        case "publish":
            for _ in range(count):
                gateway.offset += 1
                client.hear(gateway.publication(gateway.offset))
        case "lose":
            gateway.offset += 1
        case "repeat" if gateway.offset:
            client.hear(gateway.publication(gateway.offset))
        case "restart":
            gateway.epoch = str(int(gateway.epoch) + 1)
            gateway.offset = gateway.forgotten = 0
            client.ask()
        case "forget":
            gateway.forgotten = gateway.offset
        case "cut":
            client.ask(heard_of_it=count)
            client.ask()
        case _:
            pass
