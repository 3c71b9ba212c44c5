"""Who may do what, written down by hand from what was asked for, not from the code.

By service: method, path, who about oneself (or nobody in particular), who about others.
u user, a auditor, o operator, A admin; "all" needs no token; "-" nobody.
"""

from typing import Final

Row = tuple[str, str, str, str]

READS: Final = ("uaoA", "aoA")
# Auditors look and touch nothing.
ACTS: Final = ("uoA", "oA")
ONESELF: Final = ("uaoA", "-")
LOOKS: Final = ("aoA", "aoA")
OPERATES: Final = ("oA", "oA")
ADMINISTERS: Final = ("A", "A")
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
        ("PATCH", "/v1/contributions/{user_id}/grants/{grant_id}", *OPERATES),
        ("DELETE", "/v1/contributions/{user_id}/grants/{grant_id}", *OPERATES),
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
    "auth": (
        *EVERY_SERVICE,
        ("GET", "/.well-known/jwks.json", *PUBLIC),
        ("POST", "/v1/register", *PUBLIC),
        ("POST", "/v1/login", *PUBLIC),
        ("POST", "/v1/refresh", *PUBLIC),
        ("POST", "/v1/logout", *ONESELF),
        ("POST", "/v1/logout-all", *ONESELF),
        ("GET", "/v1/me", *ONESELF),
        ("DELETE", "/v1/me", *ONESELF),
        ("GET", "/v1/sessions", *ONESELF),
        ("DELETE", "/v1/sessions/{session_id}", *ONESELF),
        ("POST", "/v1/password", *ONESELF),
        ("POST", "/v1/password/reset", *PUBLIC),
        ("POST", "/v1/password/reset/confirm", *PUBLIC),
        ("POST", "/v1/totp/setup", *ONESELF),
        ("POST", "/v1/totp/confirm", *ONESELF),
        ("POST", "/v1/totp/disable", *ONESELF),
    ),
    "admin": (
        *EVERY_SERVICE,
        ("GET", "/v1/admin/users", "aoA", "-"),
        ("GET", "/v1/admin/users/{user_id}", *LOOKS),
        ("PUT", "/v1/admin/users/{user_id}/role", *ADMINISTERS),
        ("POST", "/v1/admin/users/{user_id}/disable", *ADMINISTERS),
        ("POST", "/v1/admin/users/{user_id}/enable", *ADMINISTERS),
        ("POST", "/v1/admin/users/{user_id}/erase", *ADMINISTERS),
        ("POST", "/v1/admin/users/{user_id}/freeze", *OPERATES),
        ("POST", "/v1/admin/users/{user_id}/unfreeze", *OPERATES),
        ("GET", "/v1/admin/emission", "aoA", "-"),
        ("POST", "/v1/admin/emission", "A", "-"),
        ("GET", "/v1/admin/reserve-burn", "aoA", "-"),
        ("PUT", "/v1/admin/reserve-burn", "A", "-"),
        ("GET", "/v1/admin/markets", "aoA", "-"),
        ("POST", "/v1/admin/markets", "A", "-"),
        ("PUT", "/v1/admin/markets/{market}/rules", "A", "-"),
        ("PUT", "/v1/admin/markets/{market}/burn", "A", "-"),
        ("POST", "/v1/admin/markets/{market}/halt", "oA", "-"),
        ("POST", "/v1/admin/markets/{market}/resume", "oA", "-"),
        ("GET", "/v1/admin/approvals", "aoA", "-"),
        ("GET", "/v1/admin/approvals/{approval_id}", "aoA", "-"),
        ("POST", "/v1/admin/approvals/{approval_id}/approve", "A", "-"),
        ("POST", "/v1/admin/approvals/{approval_id}/reject", "A", "-"),
        ("GET", "/v1/admin/records", "aoA", "-"),
        ("GET", "/v1/admin/records/verify", "aoA", "-"),
        ("GET", "/v1/admin/health", "aoA", "-"),
        ("GET", "/v1/admin/lag", "aoA", "-"),
        ("GET", "/v1/admin/jobs", "aoA", "-"),
        ("POST", "/v1/admin/jobs", "oA", "-"),
        ("GET", "/v1/admin/jobs/{job_id}", "aoA", "-"),
        ("POST", "/v1/admin/jobs/{job_id}/cancel", "oA", "-"),
    ),
}
