"""One operation of an OpenAPI document: its parameters, body, answers and who may use it."""

import inspect
import re
from typing import Any, Final

from gateway.access import ROLES, Access, Role, Scope
from gateway.endpoint import Endpoint, RawBody
from gateway.errors import PROBLEM_TYPE, status_of
from gateway.idempotency_keys import HEADER as KEY_HEADER
from gateway.openapi.examples import example_of
from gateway.openapi.permissions import roles_with
from gateway.openapi.shapes import REF, Node, without_null
from gateway.openapi.statuses import codes_of
from gateway.tracing import REPLAYED, REQUEST_ID
from schemas.frames import KEY_CHARS_MAX

_IN_PATH: Final = re.compile(r"{(\w+)}")
_RETRIED_LATER: Final = (429, 503)


def operation(endpoint: Endpoint, schemas: "Schemas", *, operation_id: str) -> Node:
    words = inspect.cleandoc(endpoint.handle.__doc__ or "")
    return {
        "operationId": operation_id,
        "summary": endpoint.summary[:1].upper() + endpoint.summary[1:],
        **({"description": words} if words else {}),
        "tags": [tag(endpoint)],
        **({"parameters": parameters} if (parameters := _parameters(endpoint, schemas)) else {}),
        **({"requestBody": _body(endpoint, schemas)} if endpoint.body else {}),
        "responses": _responses(endpoint, schemas),
        **_security(endpoint.access),
    }


class Schemas:
    """Schemas of a document's shapes, as references where they have a name."""

    def __init__(self, of_shapes: dict[Any, Node], named: dict[str, Node]) -> None:
        self._of_shapes = of_shapes
        self.named = named

    def reference(self, shape: Any) -> Node:
        return self._of_shapes[shape]

    def whole(self, shape: Any) -> Node:
        """The schema of a struct itself."""
        return self.named[self._of_shapes[shape]["$ref"].rpartition("/")[2]]


def tag(endpoint: Endpoint) -> str:
    """What it is about: the first word of its path that says so."""
    words = [word for word in endpoint.path.split("/") if word not in ("", "v1", "admin")]
    return words[0] if endpoint.path.startswith("/v1/") else "operations"


def path_names(endpoint: Endpoint) -> list[str]:
    return _IN_PATH.findall(endpoint.path)


def _parameters(endpoint: Endpoint, schemas: Schemas) -> list[Node]:
    shape = schemas.whole(endpoint.parameters)
    in_path, required = path_names(endpoint), shape.get("required", ())
    found = [
        _parameter(
            name,
            without_null(schema),
            where="path" if name in in_path else "query",
            is_required=name in required or name in in_path,
        )
        for name, schema in shape.get("properties", {}).items()
    ]
    # Those in the path first, in their order there.
    found.sort(key=lambda node: in_path.index(node["name"]) if node["in"] == "path" else 99)
    return [*found, *([_KEY] if endpoint.is_command else [])]


def _parameter(name: str, schema: Node, *, where: str, is_required: bool) -> Node:
    words = schema.pop("description", None)
    # Otherwise it may have been a part's that described it: those of a union.
    return {
        "name": name,
        "in": where,
        "required": is_required,
        **({"description": words} if words else {}),
        "schema": schema,
        **({"example": example_of(name, schema)} if is_required else {}),
    }


_KEY: Final[Node] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "An id that you make up. However often the same request comes with it, it has"
    " its effect once, and each gets the first answer.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": KEY_CHARS_MAX,
        # Visible ASCII; a tilde in front marks keys of our own.
        "pattern": "^[!-}][!-~]*$",
    },
}
assert _KEY["name"].lower() == KEY_HEADER


def _body(endpoint: Endpoint, schemas: Schemas) -> Node:
    assert endpoint.body is not None
    if endpoint.body is RawBody:
        content: Node = {"schema": {"type": "string", "maxLength": endpoint.body_bytes_max}}
    else:
        content = {
            "schema": schemas.reference(endpoint.body),
            "example": example_of("", schemas.whole(endpoint.body), schemas.named),
        }
    return {
        "required": endpoint.needs_body,
        "content": {endpoint.body_media_type: content},
    }


def _responses(endpoint: Endpoint, schemas: Schemas) -> Node:
    good: Node = {"description": _good_words(endpoint), "headers": _good_headers(endpoint)}
    if endpoint.answer is not None:
        good["content"] = {endpoint.media_type: {"schema": schemas.reference(endpoint.answer)}}
    elif endpoint.status != 204:
        good["content"] = {endpoint.media_type: {"schema": {"type": "string"}}}
    found = {str(endpoint.status): good}
    for status, shape in endpoint.other_answers.items():
        content = {"schema": schemas.reference(shape)}
        found[str(status)] = {
            "description": "Another answer.",
            "content": {endpoint.media_type: content},
        }
    for status, codes in codes_of(endpoint).items():
        found.setdefault(str(status), _problem(status, codes))
    return dict(sorted(found.items()))


def _good_words(endpoint: Endpoint) -> str:
    return "Done." if endpoint.is_command else "Found."


def _good_headers(endpoint: Endpoint) -> Node:
    found = {REQUEST_ID: {"$ref": "#/components/headers/RequestId"}}
    if endpoint.is_command:
        found[REPLAYED] = {"$ref": "#/components/headers/Replayed"}
    return found


def _problem(status: int, codes: tuple[str, ...]) -> Node:
    """A refusal; its code is one of these."""
    if len(codes) == 1:
        return {"$ref": f"#/components/responses/{response_name(codes[0])}"}
    return problem(status, codes)


def response_name(code: str) -> str:
    """Of the answer that gives this code and no other: invalid_request is InvalidRequest."""
    return "".join(word.capitalize() for word in code.split("_"))


def problem(status: int, codes: tuple[str, ...]) -> Node:
    headers: Node = {REQUEST_ID: {"$ref": "#/components/headers/RequestId"}}
    if status in _RETRIED_LATER:
        headers["retry-after"] = {"$ref": "#/components/headers/RetryAfter"}
    narrowed = {"properties": {"status": {"const": status}, "code": {"enum": list(codes)}}}
    return {
        "description": f"{status_of(codes[0]).phrase}: {', '.join(f'`{code}`' for code in codes)}.",
        "headers": headers,
        "content": {
            PROBLEM_TYPE: {"schema": {"allOf": [{"$ref": REF.format(name="Problem")}, narrowed]}}
        },
    }


def _security(access: Access) -> Node:
    """bearer's list: the scope that the token must have, as OpenAPI 3.1 allows for any scheme."""
    if access.own is None:
        return {"security": []}
    others = {} if access.others is None else {"others": _allowed(access.others)}
    return {
        "security": [{"bearer": [str(access.own)]}],
        "x-roles": {"own": _allowed(access.own), **others},
    }


def _allowed(scope: Scope) -> list[Role]:
    allowed = roles_with(scope)
    return [role for role in ROLES if role in allowed]
