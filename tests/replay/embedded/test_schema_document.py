"""References, merged parts and sizes of JSON schemas."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rejoule.replay.embedded.scalars import SchemaError
from rejoule.replay.embedded.schema_document import Document, merge

NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}


def test_what_stands_beside_a_reference_holds_too() -> None:
    """A reference is followed through others, and keywords beside it narrow what it leads to."""
    document = Document({"$defs": {"a/b": {"$ref": "#/$defs/n"}, "n": {"type": "integer", "minimum": 3}}})
    assert document.resolved({"$ref": "#/$defs/a~1b", "maximum": 9, "minimum": 1}) == {
        "type": "integer",
        "minimum": 3,
        "maximum": 9,
    }


def test_all_parts_hold_together() -> None:
    """Bounds become the tighter ones, required keys add up, enums and types are what both allow."""
    a: dict[str, Any] = {"type": "number", "maximum": 5, "required": ["x"], "enum": [1, 2, 3]}
    b: dict[str, Any] = {"type": ["integer", "string"], "maximum": 7, "required": ["y", "x"], "enum": [3, 2]}
    assert merge(a, b) == {"type": "integer", "maximum": 5, "required": ["x", "y"], "enum": [2, 3]}
    assert Document({}).resolved({"allOf": [a, True, b]}) == merge(a, b)


def test_what_recurs_for_ever_weighs_without_end() -> None:
    """A branch that ends is lighter than one that must contain itself."""
    document = Document({"$defs": {"node": NODE}})
    assert document.weight(NODE) == math.inf
    assert document.weight({"anyOf": [NODE, {"type": "null"}]}) == 2


@pytest.mark.parametrize("reference", ["other.json", "#/$defs/none", "#/$defs/text"])
def test_references_to_nothing_are_refused(reference: str) -> None:
    """What leads out of the document, nowhere, or to no schema is an error that says so."""
    with pytest.raises(SchemaError, match=r"leads|leaves"):
        Document({"$defs": {"text": "no schema"}}).resolved({"$ref": reference})


def test_circles_and_contradictions_are_refused() -> None:
    """References that only lead to each other, and types that exclude each other, cannot be obeyed."""
    with pytest.raises(SchemaError, match="circle"):
        Document({"$defs": {"a": {"$ref": "#/$defs/a"}}}).resolved({"$ref": "#/$defs/a"})
    with pytest.raises(SchemaError, match="no type"):
        merge({"type": "string"}, {"type": "integer"})
