"""The permission matrix as derived from endpoints."""

from gateway.access import PUBLIC, Access, Role, Scope
from gateway.openapi.permissions import page, permission
from tests.unit.gateway.openapi.test_document import CATS, NAP


def test_public_endpoints_are_for_all() -> None:
    found = permission("cats", CATS)
    assert (found.own, found.others, found.scope) == (None, None, None)
    assert CATS.access == PUBLIC


def test_naming_another_needs_both_scopes() -> None:
    found = permission("cats", NAP)
    assert found.own == frozenset[Role]({"user", "operator", "admin"})
    assert found.others == frozenset[Role]({"operator", "admin"})
    assert NAP.access == Access(Scope.TRADE, Scope.TRADE_OTHERS)


def test_the_page_has_a_row_for_every_endpoint() -> None:
    shown = page({"cats": [NAP, CATS]}, "<!-- made -->")
    assert shown.startswith("<!-- made -->\n# Who may do what")
    assert (
        "| `POST /v1/cats/{cat_id}/naps` | `trade`, `trade:others` | user, operator, admin"
        " | operator, admin |" in shown
    )
    assert "| `GET /v1/cats` |  | all | all |" in shown
