"""Schemas of structs: names fit for code, docstrings told apart, parameters that cannot be null."""

from typing import Annotated, Generic, TypeVar

import msgspec
import pytest

from gateway.openapi.shapes import schemas_of, split_words, without_null

T = TypeVar("T")


class Coin(msgspec.Struct):
    """A coin. side: heads or tails. minted, melted: Unix ms; None if not yet."""

    side: str
    minted: int | None = None
    melted: int | None = None


class Silent(Coin):
    pass


class Pile(msgspec.Struct, Generic[T]):
    items: tuple[T, ...]


def test_generic_shapes_have_names_that_can_be_spoken() -> None:
    [reference], named = schemas_of([Pile[Coin]])
    assert reference == {"$ref": "#/components/schemas/PileOfCoin"}
    assert set(named) == {"Coin", "PileOfCoin"}
    items = named["PileOfCoin"]["properties"]["items"]
    assert items["items"] == {"$ref": "#/components/schemas/Coin"}


def test_docstrings_describe_the_struct_and_its_fields() -> None:
    _, named = schemas_of([Coin])
    assert named["Coin"]["description"] == "A coin."
    fields = named["Coin"]["properties"]
    assert fields["side"]["description"] == "Heads or tails."
    assert fields["minted"]["description"] == fields["melted"]["description"]


def test_words_of_a_base_are_not_those_of_what_derives_from_it() -> None:
    _, named = schemas_of([Silent])
    assert "description" not in named["Silent"]


@pytest.mark.parametrize(
    ("docstring", "whole", "fields"),
    [
        ("Only this.", "Only this.", {}),
        ("a: one. b: two.", "", {"a": "One.", "b": "Two."}),
        ("All. Note: a colon. a: one", "All. Note: a colon.", {"a": "One"}),
        (
            "a, b: both; c: not a field.",
            "",
            {"a": "Both; c: not a field.", "b": "Both; c: not a field."},
        ),
    ],
)
def test_words_are_split_at_field_names(docstring: str, whole: str, fields: dict[str, str]) -> None:
    assert split_words(docstring, {"a", "b"}) == (whole, fields)


def test_a_parameter_is_left_out_rather_than_null() -> None:
    kind = Annotated[int, msgspec.Meta(ge=1)] | None
    [schema], _ = schemas_of([kind])
    assert without_null({**schema, "default": None}) == {"type": "integer", "minimum": 1}
    assert without_null({"type": "integer", "default": 7}) == {"type": "integer", "default": 7}
