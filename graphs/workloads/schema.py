"""The few JSON Schemas that the workflows ask for.

Every schema is closed and bounded, so that even a model that babbles comes to an end, and small enough to be
checked here: a server may ignore a schema, or cut the answer.
"""

from __future__ import annotations

import re
from typing import Any

Schema = dict[str, Any]

# JSON can escape half of a surrogate pair, which no prompt and no file can hold.
HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def text(max_chars: int, **annotations: str) -> Schema:
    """A string that is not empty."""
    return {"type": "string", "minLength": 1, "maxLength": max_chars, **annotations}


def one_of(*values: str) -> Schema:
    """One of a few words."""
    return {"type": "string", "enum": list(values)}


def items(schema: Schema, at_least: int, at_most: int) -> Schema:
    """A list of things of one kind."""
    return {"type": "array", "items": schema, "minItems": at_least, "maxItems": at_most}


def record(**members: Schema) -> Schema:
    """An object with exactly these members."""
    return {"type": "object", "properties": members, "required": list(members), "additionalProperties": False}


def conforms(value: Any, schema: Schema) -> bool:
    """Whether a parsed answer is what the schema asked for."""
    match schema:
        case {"enum": values}:
            return value in values
        case {"type": "string", "minLength": least, "maxLength": most}:
            return isinstance(value, str) and least <= len(value) <= most and not HALF_CHARACTER.search(value)
        case {"type": "array", "items": inner, "minItems": least, "maxItems": most}:
            return isinstance(value, list) and least <= len(value) <= most and all(conforms(v, inner) for v in value)
        case {"type": "object", "properties": members}:
            return (
                isinstance(value, dict)
                and value.keys() == members.keys()
                and all(conforms(value[key], inner) for key, inner in members.items())
            )
    raise ValueError(f"not one of this module's schemas: {schema}")


def most_chars(schema: Schema) -> int:
    """The length of the longest compact answer, were no character escaped."""
    match schema:
        case {"enum": values}:
            return max(map(len, values)) + 2
        case {"type": "string", "maxLength": most}:
            return int(most) + 2
        case {"type": "array", "items": inner, "maxItems": most}:
            return int(most) * (most_chars(inner) + 2) + 2
        case {"type": "object", "properties": members}:
            return sum(len(key) + 6 + most_chars(inner) for key, inner in members.items()) + 2
    raise ValueError(f"not one of this module's schemas: {schema}")
