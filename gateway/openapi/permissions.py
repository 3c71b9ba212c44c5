"""Who may use which endpoint, for oneself and for others: derived from each endpoint's Access.

docs/permissions.md is this as a page; tests/contract/test_permissions.py tries every cell.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from gateway.access import GRANTS, MEANINGS, ROLES, Role, Scope
from gateway.endpoint import Endpoint

Service = TypeVar("Service", bound=str)

_HEAD: Final = """\
# Who may do what

Every endpoint of every service. *own*: about oneself, or about nobody in particular. *others*:
naming another user; `-` where no other can be named. *all* includes those without a token; others
get 401 `unauthorized` without one, and 403 `forbidden` if their role is not named. A token may
carry fewer scopes than its role is granted; then it may do less.
"""


# Scopes of those who run the system: what they allow is about others in the first place.
_ABOUT_ANYBODY: Final = frozenset({Scope.AUDIT, Scope.OPERATE, Scope.ADMINISTER})


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """own, others: the roles that may; None: everybody, without a token as well.

    others is empty where no other can be named. scope, scope_others: what their tokens need.
    """

    service: str
    method: str
    path: str
    own: frozenset[Role] | None
    others: frozenset[Role] | None
    scope: Scope | None
    scope_others: Scope | None


def names_user(endpoint: Endpoint) -> bool:
    """Whether a request may say whom it is about."""
    shapes = [endpoint.parameters, *([endpoint.body] if endpoint.body else [])]
    return any("user_id" in shape.__struct_fields__ for shape in shapes)


def roles_with(scope: Scope) -> frozenset[Role]:
    return frozenset(role for role in ROLES if scope in GRANTS[role])


def permission(service: str, endpoint: Endpoint) -> Permission:
    own, others = endpoint.access.own, endpoint.access.others
    own_roles = None if own is None else roles_with(own)
    others_roles = own_roles if own is None else frozenset[Role]()
    if own is not None and others is not None:
        # One scope more: who names another needs that of the endpoint, too.
        others_roles = roles_with(own) & roles_with(others)
    elif own in _ABOUT_ANYBODY and names_user(endpoint):
        others_roles = own_roles
    return Permission(
        service=service,
        method=endpoint.method,
        path=endpoint.path,
        own=own_roles,
        others=others_roles,
        scope=own,
        scope_others=others,
    )


def permissions(services: Mapping[Service, Sequence[Endpoint]]) -> list[Permission]:
    return [
        permission(service, endpoint)
        for service, endpoints in services.items()
        for endpoint in endpoints
    ]


def page(services: Mapping[Service, Sequence[Endpoint]], mark: str) -> str:
    """docs/permissions.md. mark: the line that says that it is generated."""
    return "\n".join([mark, *_lines(services)]) + "\n"


def _lines(services: Mapping[Service, Sequence[Endpoint]]) -> Iterator[str]:
    yield _HEAD
    yield "| scope | allows | roles |"
    yield "|---|---|---|"
    for scope in Scope:
        yield f"| `{scope}` | {MEANINGS[scope]} | {_roles(roles_with(scope))} |"
    for service in services:
        yield f"\n## {service}\n"
        yield "| endpoint | scope | own | others |"
        yield "|---|---|---|---|"
        for row in permissions({service: services[service]}):
            scopes = ", ".join(f"`{s}`" for s in (row.scope, row.scope_others) if s is not None)
            allowed = f"{_roles(row.own)} | {_roles(row.others)}"
            yield f"| `{row.method} {row.path}` | {scopes} | {allowed} |"


def _roles(roles: frozenset[Role] | None) -> str:
    if roles is None:
        return "all"
    return ", ".join(role for role in ROLES if role in roles) or "-"
