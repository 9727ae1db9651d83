"""What a JSON schema demands once its references are followed and its parts are put together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rejoule.replay.embedded.scalars import Schema, SchemaError

DEPTH = 6
"""Below this nesting only what a schema requires is written, so that recursive schemas end."""
LAST = 40
MOST_PARTS = 50_000
"""Looked at for one answer, those of branches that lead nowhere included."""


class Document:
    """A schema that references are looked up in."""

    def __init__(self, root: Schema | bool) -> None:
        self.root = root
        self._looked_at = 0

    def count(self) -> None:
        """Raises SchemaError once more was looked at than any schema needs: alternatives of alternatives never end."""
        self._looked_at += 1
        if self._looked_at > MOST_PARTS:
            raise SchemaError(f"an answer takes more than {MOST_PARTS:,} parts of the schema")

    def resolved(self, schema: Schema) -> Schema:
        """``schema`` with its reference followed and its ``allOf`` merged. Raises SchemaError if they lead nowhere."""
        self.count()
        for _ in range(LAST):
            if "$ref" in schema:
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                schema = merge(self._target(schema["$ref"]), rest)
            elif "allOf" in schema:
                merged: Schema = {key: value for key, value in schema.items() if key != "allOf"}
                for part in schema["allOf"]:
                    if part is False:
                        raise SchemaError("a schema that nothing satisfies")
                    merged = merged if part is True else merge(merged, self.resolved(part))
                schema = merged
            else:
                return schema
        raise SchemaError("references go round in a circle")

    def weight(self, schema: Schema | bool, depth: int = 0) -> float:
        """Roughly how much the least value of a schema has in it; infinite for what recurs."""
        if isinstance(schema, bool):
            return 1 if schema else math.inf
        if depth > DEPTH:
            return math.inf
        schema = self.resolved(schema)
        if "const" in schema or "enum" in schema:
            return 1
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return 1 + min((self.weight(branch, depth + 1) for branch in schema[key]), default=math.inf)
        kinds = kinds_of(schema)
        if "object" in kinds or "properties" in schema:
            properties = schema.get("properties", {})
            return 2 + sum(self.weight(properties.get(key, True), depth + 1) for key in schema.get("required", ()))
        if "array" in kinds and schema.get("minItems", 0):
            return 2 + int(schema["minItems"]) * self.weight(schema.get("items", True), depth + 1)
        return 1

    def _target(self, reference: str) -> Schema:
        if not reference.startswith("#"):
            raise SchemaError(f"$ref {reference!r} leaves the schema")
        target: Any = self.root
        for part in reference[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(key)] if isinstance(target, list) else target[key]
            except (KeyError, ValueError, IndexError, TypeError) as error:
                raise SchemaError(f"$ref {reference!r} leads nowhere") from error
        if target is True:
            return {}
        if not isinstance(target, Mapping):
            raise SchemaError(f"$ref {reference!r} leads to no schema")
        return target


def kinds_of(schema: Schema) -> list[str]:
    """The types that a schema names; none if it leaves that open."""
    kind = schema.get("type")
    return [] if kind is None else [kind] if isinstance(kind, str) else list(kind)


def implied_kind(schema: Schema) -> str:
    """The type that the other keywords of a schema without one are for."""
    for kind, keys in (
        ("object", ("properties", "required", "additionalProperties", "minProperties")),
        ("array", ("items", "prefixItems", "minItems", "maxItems")),
        ("string", ("pattern", "minLength", "maxLength", "format", "contentMediaType")),
        ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
    ):
        if any(key in schema for key in keys):
            return kind
    return "string"


def merge(a: Schema, b: Schema) -> Schema:
    """A schema that demands what both do, where that is simple to say. Raises SchemaError if no type is left."""
    merged = dict(a)
    for key, value in b.items():
        if key not in merged:
            merged[key] = value
        elif key == "properties":
            both = {k: merge(merged[key][k], v) for k, v in value.items() if k in merged[key]}
            merged[key] = {**merged[key], **value, **both}
        elif key == "required":
            merged[key] = list(dict.fromkeys([*merged[key], *value]))
        elif key in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
            merged[key] = max(merged[key], value)
        elif key in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
            merged[key] = min(merged[key], value)
        elif key == "enum":
            merged[key] = [one for one in merged[key] if one in value]
        elif key == "type":
            kinds = [kind for kind in kinds_of(a) if kind in kinds_of(b)]
            named = kinds_of(a) + kinds_of(b)
            if "number" in named and "integer" in named and "integer" not in kinds:
                kinds.append("integer")
            if not kinds:
                raise SchemaError("no type is left")
            merged[key] = kinds if len(kinds) > 1 else kinds[0]
        else:
            merged[key] = value
    return merged
