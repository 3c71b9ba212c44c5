"""Who may do what, written down by hand from what was asked for, not from the code.

By service: method, path, who about oneself (or nobody in particular), who about others.
u user, a auditor, o operator, A admin; "all" needs no token; "-" nobody.
"""

from typing import Final

Row = tuple[str, str, str, str]

READS: Final = ("uaoA", "aoA")
# Auditors look and touch nothing.
ACTS: Final = ("uoA", "oA")
OPERATES: Final = ("oA", "oA")
PUBLIC: Final = ("all", "all")

EVERY_SERVICE: Final[tuple[Row, ...]] = (
    ("GET", "/healthz", *PUBLIC),
    ("GET", "/readyz", *PUBLIC),
    ("GET", "/metrics", *PUBLIC),
    ("GET", "/openapi.json", *PUBLIC),
    ("GET", "/docs", *PUBLIC),
)

TABLE: Final[dict[str, tuple[Row, ...]]] = {
    "contribution": (
        *EVERY_SERVICE,
        ("GET", "/v1/contributions/summary", *PUBLIC),
        ("GET", "/v1/contributions", "aoA", "-"),
        ("GET", "/v1/contributions/sources", "aoA", "-"),
        ("GET", "/v1/contributions/expiring", "aoA", "-"),
        ("GET", "/v1/contributions/{user_id}", *READS),
        ("GET", "/v1/contributions/{user_id}/history", *READS),
        ("POST", "/v1/contributions", *OPERATES),
        ("POST", "/v1/contributions/import", "oA", "-"),
        ("PATCH", "/v1/contributions/{user_id}/{grant_id}", *OPERATES),
        ("DELETE", "/v1/contributions/{user_id}/{grant_id}", *OPERATES),
    ),
    "mining": (
        *EVERY_SERVICE,
        ("GET", "/v1/mining/pool", *PUBLIC),
        ("GET", "/v1/mining/emission", *PUBLIC),
        ("GET", "/v1/mining/me", *READS),
        ("GET", "/v1/mining/records", *READS),
        ("GET", "/v1/mining/allocations", *READS),
        ("GET", "/v1/mining/projection", *READS),
        ("GET", "/v1/mining/leaderboard", "uaoA", "-"),
        ("POST", "/v1/mining/settle", *ACTS),
    ),
    "trading": (
        *EVERY_SERVICE,
        ("GET", "/v1/markets", *PUBLIC),
        ("GET", "/v1/markets/{market}", *PUBLIC),
        ("GET", "/v1/ticker", *PUBLIC),
        ("GET", "/v1/tickers", *PUBLIC),
        ("GET", "/v1/depth", *PUBLIC),
        ("GET", "/v1/trades", *PUBLIC),
        ("GET", "/v1/klines", *PUBLIC),
        ("GET", "/v1/burns", *PUBLIC),
        ("GET", "/v1/burns/total", *PUBLIC),
        ("GET", "/v1/udf/config", *PUBLIC),
        ("GET", "/v1/udf/time", *PUBLIC),
        ("GET", "/v1/udf/symbols", *PUBLIC),
        ("GET", "/v1/udf/search", *PUBLIC),
        ("GET", "/v1/udf/history", *PUBLIC),
        ("POST", "/v1/orders", *ACTS),
        ("DELETE", "/v1/orders", *ACTS),
        ("PATCH", "/v1/orders/{order_id}", *ACTS),
        ("DELETE", "/v1/orders/{order_id}", *ACTS),
        ("GET", "/v1/orders", *READS),
        ("GET", "/v1/orders/{order_id}", *READS),
        ("GET", "/v1/fills", *READS),
        ("GET", "/v1/balances", *READS),
        ("GET", "/v1/transactions", *READS),
        ("POST", "/v1/deposits", *OPERATES),
        ("POST", "/v1/withdrawals", *ACTS),
        ("GET", "/v1/withdrawals", *READS),
        ("GET", "/v1/withdrawals/{withdrawal_id}", *READS),
        ("DELETE", "/v1/withdrawals/{withdrawal_id}", *ACTS),
        ("POST", "/v1/withdrawals/{withdrawal_id}/approve", "oA", "-"),
        ("POST", "/v1/withdrawals/{withdrawal_id}/reject", "oA", "-"),
    ),
}
