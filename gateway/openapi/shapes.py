"""JSON Schemas of the structs that bodies, answers and parameters are, fit for an OpenAPI document.

A struct's docstring is its description; a sentence `field: words.` in it describes that field.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import inspect as kinds

Node = dict[str, Any]

REF: Final = "#/components/schemas/{name}"
_GENERIC: Final = re.compile(r"(\w+)\[(.+)\]")
_OF_FIELDS: Final = re.compile(r"(?:^|(?<=[.;] ))(\w+(?:, \w+)*): ")


def schemas_of(shapes: Sequence[Any]) -> tuple[list[Node], dict[str, Node]]:
    """The schema of each shape, in order, and the named schemas that they refer to."""
    found, named = msgspec.json.schema_components(shapes, ref_template=REF)
    silent = _without_words(shapes)
    names = _public_names(named)
    told = {
        names[name]: _renamed(_described(schema, silent), names)
        for name, schema in sorted(named.items(), key=lambda entry: names[entry[0]])
    }
    return [_renamed(schema, names) for schema in found], told


def without_null(schema: Node) -> Node:
    """The same for what cannot be null, only be left out: a parameter."""
    kept = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    if schema.get("default") is not None:
        kept["default"] = schema["default"]
    options = [part for part in schema.get("anyOf", ()) if part != {"type": "null"}]
    match options:
        case []:
            return kept
        case [only]:
            return {**only, **kept}
        case _:
            return {**kept, "anyOf": options}


def _public_names(named: dict[str, Node]) -> dict[str, str]:
    """Page_Trade_ becomes PageOfTrade; a name that two shapes would have stays what it was."""
    wished = {name: _spoken(schema.get("title", name)) for name, schema in named.items()}
    taken = list(wished.values())
    return {name: wish if taken.count(wish) == 1 else name for name, wish in wished.items()}


def _spoken(title: str) -> str:
    generic = _GENERIC.fullmatch(title)
    return f"{generic[1]}Of{_spoken(generic[2])}" if generic else title


def _described(schema: Node, silent: set[str]) -> Node:
    words = schema.get("description", "")
    described = {name: value for name, value in schema.items() if name != "description"}
    if words and schema.get("title") not in silent:
        fields = schema.get("properties", {})
        own, of_fields = split_words(words, set(fields))
        if own:
            described["description"] = own
        if of_fields:
            described["properties"] = {
                name: _with_words(field, of_fields.get(name)) for name, field in fields.items()
            }
    return described


def _with_words(field: Node, words: str | None) -> Node:
    return field if words is None else {**field, "description": words}


def split_words(docstring: str, fields: set[str]) -> tuple[str, dict[str, str]]:
    """What a docstring says of the whole, and what of its fields."""
    text = " ".join(inspect.cleandoc(docstring).split())
    marks = [mark for mark in _OF_FIELDS.finditer(text) if set(mark[1].split(", ")) <= fields]
    if not marks:
        return text, {}
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    of_fields = {
        name: _sentence(text[mark.end() : end])
        for mark, end in zip(marks, ends, strict=True)
        for name in mark[1].split(", ")
    }
    return text[: marks[0].start()].strip(), of_fields


def _sentence(words: str) -> str:
    words = words.strip().rstrip(";")
    return words[:1].upper() + words[1:]


def _without_words(shapes: Sequence[Any]) -> set[str]:
    """Names of structs without a docstring: msgspec would show that of what they derive from."""
    return {
        found.__name__
        for shape in kinds.multi_type_info(shapes)
        for found in _structs(shape, set())
        if not vars(found).get("__doc__")
    }


def _structs(shape: Any, seen: set[type]) -> Iterator[type]:
    if isinstance(shape, kinds.StructType):
        if shape.cls in seen:
            return
        seen.add(shape.cls)
        yield shape.cls
        parts: Sequence[Any] = [field.type for field in shape.fields]
    else:
        parts = _parts(shape)
    for part in parts:
        yield from _structs(part, seen)


def _parts(shape: Any) -> Sequence[Any]:
    match shape:
        case kinds.UnionType():
            return shape.types
        case kinds.DictType():
            return (shape.value_type,)
        case kinds.TupleType():
            return shape.item_types
        case kinds.VarTupleType() | kinds.ListType() | kinds.SetType() | kinds.FrozenSetType():
            return (shape.item_type,)
        case kinds.Metadata():
            return (shape.type,)
        case _:
            return ()


def _renamed(node: Any, names: dict[str, str]) -> Any:
    match node:
        case {"prefixItems": [first, *others]} if all(other == first for other in others):
            # The same, in words that tools of older drafts know.
            pair = {key: value for key, value in node.items() if key != "prefixItems"}
            return {**pair, "items": _renamed(first, names)}
        case {"$ref": str() as ref, **rest}:
            name = ref.rpartition("/")[2]
            return {"$ref": REF.format(name=names.get(name, name)), **rest}
        case dict():
            return {key: _renamed(value, names) for key, value in node.items()}
        case list():
            return [_renamed(part, names) for part in node]
        case _:
            return node
