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
}
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
            fields, required = schema.get("properties", {}), schema.get("required", ())
            return {field: example_of(field, fields[field], named) for field in required}
        case "array":
            items = schema.get("items") or {}
            return [example_of(name, items, named)] if schema.get("minItems") else []
        case "integer" | "number":
            wished = _BY_NAME.get(name)
            return wished if isinstance(wished, int) else schema.get("minimum", 1)
        case "boolean":
            return False
        case "null":
            return None
        case _:
            wished = _BY_NAME.get(name)
            return wished if isinstance(wished, str) else _TEXT
