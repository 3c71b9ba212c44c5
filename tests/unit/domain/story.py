"""One short history in which every event type occurs: for tests of what holds for all of them."""

from schemas import commands
from schemas.events import EpochStarted
from tests.unit.domain.scenario import GENESIS_SECOND, MARKET, Scenario

# The third second after genesis begins a minute.
STORY_GENESIS = GENESIS_SECOND + 38


def story() -> Scenario:
    """seller and buyer with orders, fees and burns; grants that come, change and end."""
    given = Scenario(
        burn_bps=100,
        taker_fee_bps=50,
        maker_fee_bps=20,
        treasury_minor=1_000,
        genesis_second=STORY_GENESIS,
    )
    given.accept(commands.OpenAccount(user_id="watcher"))
    given.deposit("buyer", "CNY", 10_000)
    given.deposit("seller", "DUR", 1_000)
    given.accept(commands.ScheduleEmission(from_second=given.second + 2, reward_minor=7))
    given.accept(commands.ConfigureReserveBurn(amount_minor=300))
    given.grant("seller", 3, grant_id="short", expires_second=given.second + 3)
    given.grant("seller", 2, grant_id="long")
    given.tick(3)
    given.accept(commands.AdjustContribution(user_id="seller", grant_id="long", weight=5))
    given.place("seller", "sell", 200, 100)
    given.place("buyer", "buy", 300, 150)
    given.accept(given.replace("buyer", 2, 50, 150))
    given.configure(burn_bps=90)
    given.accept(commands.HaltMarket(market_id=MARKET, reason="test"))
    given.accept(commands.ResumeMarket(market_id=MARKET))
    given.accept(commands.FreezeAccount(user_id="buyer", reason="test"))
    given.accept(commands.UnfreezeAccount(user_id="buyer"))
    given.tick()
    given.accept(commands.SettleAccrual(user_id="seller"))
    given.accept(given.withdraw("seller", "CNY", 150))
    given.log.append(EpochStarted(at_ns=given.state.at_ns, epoch=2, started_at_ns=1))
    return given
