"""Examples in OpenAPI documents and in the curl lines of their pages: by name, else by schema."""

from typing import Any, Final

from gateway.openapi.shapes import Node

_BY_NAME: Final[dict[str, Any]] = {
    "market": "DUR-CNY",
    "symbol": "DUR-CNY",
    "asset": "CNY",
    "user_id": "u_4k7qz2m5x3a6",
    "interval": "1m",
    "resolution": "1",
    "side": "buy",
    "type": "limit",
    "price": "2.50",
    "quantity": "10",
    "amount": "100.00",
    "weight": "250",
    "source": "app",
    "from": 1_769_040_000_000,
    "to": 1_769_043_600_000,
    "user_name": "mei",
    "name": "mei",
    "email": "mei@example.org",
    "phone": "+8613800138000",
    "reason": "asked for by the user",
    "password": "a long pass phrase",
    "new_password": "a longer pass phrase",
    "login": "mei",
    "session_id": "s_4k7qz2m5x3a6b7c2d5e3f6g4h7",
    "code": "12345678",
    "totp": "123456",
}
# Shown although a request may do without.
_SHOWN: Final = {"user_name", "price", "quantity"}
_TEXT: Final = "example-1"


def example_of(name: str, schema: Node, named: dict[str, Node] | None = None) -> Any:
    """A value that fits the schema; of an object only what is required."""
    if "$ref" in schema:
        return example_of(name, (named or {})[schema["$ref"].rpartition("/")[2]], named)
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema:
        wished = _BY_NAME.get(name)
        return wished if wished in schema["enum"] else schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    if "anyOf" in schema or "oneOf" in schema:
        return example_of(name, (schema.get("anyOf") or schema["oneOf"])[0], named)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            shown = {*schema.get("required", ()), *_SHOWN}
            return {
                field: example_of(field, content, named)
                for field, content in fields.items()
                if field in shown
            }
        case "array":
            items = schema.get("items") or {}
            return [example_of(name, items, named)] if schema.get("minItems") else []
        case "integer" | "number":
            wished, least = _BY_NAME.get(name), schema.get("minimum", 1)
            is_fit = isinstance(wished, int) and least <= wished <= schema.get("maximum", wished)
            return wished if is_fit else least
        case "boolean":
            return False
        case "null":
            return None
        case _:
            wished = _BY_NAME.get(name)
            return wished if isinstance(wished, str) else _TEXT
