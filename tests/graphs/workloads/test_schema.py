"""Schemas and the check of answers against them."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from rejoule.graphs.workloads.schema import conforms, items, most_chars, one_of, record, text

PLAN = record(kind=one_of("a", "bb"), parts=items(record(name=text(5)), 1, 2))


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "a", "parts": [{"name": "x"}]},
        {"kind": "c", "parts": [{"name": "x"}]},
        {"kind": "a", "parts": []},
        {"kind": "a", "parts": [{"name": "x"}] * 3},
        {"kind": "a", "parts": [{"name": "too long"}]},
        {"kind": "a", "parts": [{"name": ""}]},
        {"kind": "a", "parts": [{"name": 5}]},
        {"kind": "a", "parts": [{"name": "x", "more": 1}]},
        {"kind": "a"},
        {"kind": ["a"], "parts": "x"},
        [],
        None,
    ],
)
def test_the_check_agrees_with_the_standard(value: Any) -> None:
    """A value conforms exactly where JSON Schema says so."""
    assert conforms(value, PLAN) == jsonschema.Draft202012Validator(PLAN).is_valid(value)


def test_half_characters_are_refused() -> None:
    """An escaped half of a surrogate pair cannot be sent on."""
    assert not conforms(json.loads('"\\ud83d"'), text(5))
    assert conforms(json.loads('"\\ud83d\\ude00"'), text(5))


def test_the_longest_answer_fits() -> None:
    """The bound covers the longest answer, also with a blank after each comma and colon."""
    longest = {"kind": "bb", "parts": [{"name": "xxxxx"}] * 2}
    assert len(json.dumps(longest)) <= most_chars(PLAN) <= len(json.dumps(longest)) + 20
