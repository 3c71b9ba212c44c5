"""The naive recomputation by projection: what each one should hold after a log."""

from collections.abc import Callable

from schemas import views
from tests.model.naive_views import Log, Views
from tests.model.naive_views_market import market_views
from tests.model.naive_views_mining import mining_views
from tests.model.naive_views_users import users_views

RECOMPUTE: dict[str, Callable[[Log], Views]] = {
    views.MARKET: market_views,
    views.MINING: mining_views,
    views.ACCOUNTS: users_views,
}
