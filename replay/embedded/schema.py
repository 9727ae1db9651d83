"""Seeded values that obey a JSON schema: what a model with guided decoding could answer.

``size`` goes from 2, rich, to 0, the least that the schema allows, so that an answer can be fitted into ``max_tokens``.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from rejoule.replay.embedded.prose import Prose
from rejoule.replay.embedded.scalars import Schema, SchemaError, integer, is_a, number, string

DEPTH = 6
"""Below this nesting only what a schema requires is written, so that recursive schemas end."""
LAST = 40


class Writer:
    """Writes values for the schemas of one document."""

    def __init__(self, root: Schema | bool, rng: random.Random, prose: Prose, size: int = 2) -> None:
        self._root = root
        self._rng = rng
        self._prose = prose
        self._size = size

    def value(self) -> Any:
        """A value for the whole schema."""
        return self._value(self._root, "", 0)

    def _value(self, schema: Schema | bool, name: str, depth: int) -> Any:
        if depth > LAST:
            raise SchemaError("the schema never ends")
        if isinstance(schema, bool):
            if not schema:
                raise SchemaError("nothing obeys the schema false")
            return self._prose.word()
        if not isinstance(schema, Mapping):
            raise SchemaError("a schema is an object or a boolean")
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._enum(schema)
        for key in ("oneOf", "anyOf"):
            if key in schema:
                return self._branch(schema, key, name, depth)
        kind = self._kind(schema, depth)
        match kind:
            case "null":
                return None
            case "boolean":
                return self._rng.random() < 0.5
            case "integer":
                return integer(self._rng, schema)
            case "number":
                return number(self._rng, schema)
            case "array":
                return self._array(schema, name, depth)
            case "object":
                return self._object(schema, depth)
            case "string":
                return string(self._rng, self._prose, schema, name, self._size)
        raise SchemaError(f"unknown type {kind!r}")

    def _resolve(self, schema: Schema) -> Schema:
        """``schema`` with its reference followed and its ``allOf`` merged."""
        for _ in range(LAST):
            if "$ref" in schema:
                rest = {key: value for key, value in schema.items() if key != "$ref"}
                schema = _merge(self._target(schema["$ref"]), rest)
            elif "allOf" in schema:
                merged: Schema = {key: value for key, value in schema.items() if key != "allOf"}
                for part in schema["allOf"]:
                    if part is False:
                        raise SchemaError("a schema that nothing satisfies")
                    merged = merged if part is True else _merge(merged, self._resolve(part))
                schema = merged
            else:
                return schema
        raise SchemaError("references go round in a circle")

    def _target(self, reference: str) -> Schema:
        if not reference.startswith("#"):
            raise SchemaError(f"$ref {reference!r} leaves the schema")
        target: Any = self._root
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

    def _enum(self, schema: Schema) -> Any:
        kinds = _kinds(schema)
        values = [v for v in schema["enum"] if not kinds or any(is_a(v, kind) for kind in kinds)]
        if not values:
            raise SchemaError("an enum without a value")
        return self._rng.choice(values)

    def _branch(self, schema: Schema, key: str, name: str, depth: int) -> Any:
        rest = {k: v for k, v in schema.items() if k != key}
        branches = list(schema[key])
        if not branches:
            raise SchemaError(f"{key} without a branch")
        if depth >= DEPTH or self._size == 0:
            branches.sort(key=lambda branch: self._weight(branch, 0))
        else:
            self._rng.shuffle(branches)
        for branch in branches:
            try:
                merged = branch if branch is False else _merge(rest, {} if branch is True else self._resolve(branch))
                return self._value(merged, name, depth + 1)
            except SchemaError as error:
                failure = error
        raise failure

    def _weight(self, schema: Schema | bool, depth: int) -> float:
        """Roughly how much the least value of a schema has in it; infinite for what recurs."""
        if isinstance(schema, bool):
            return 1 if schema else math.inf
        if depth > DEPTH:
            return math.inf
        schema = self._resolve(schema)
        if "const" in schema or "enum" in schema:
            return 1
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return 1 + min((self._weight(branch, depth + 1) for branch in schema[key]), default=math.inf)
        kinds = _kinds(schema)
        if "object" in kinds or "properties" in schema:
            properties = schema.get("properties", {})
            return 2 + sum(self._weight(properties.get(key, True), depth + 1) for key in schema.get("required", ()))
        if "array" in kinds and schema.get("minItems", 0):
            return 2 + int(schema["minItems"]) * self._weight(schema.get("items", True), depth + 1)
        return 1

    def _kind(self, schema: Schema, depth: int) -> str:
        kinds = _kinds(schema)
        if not kinds:
            return _implied(schema)
        if schema.get("nullable") and "null" not in kinds:
            kinds = [*kinds, "null"]
        if "null" in kinds and len(kinds) > 1:
            if self._size == 0 or depth >= DEPTH or self._rng.random() < 0.25:
                return "null"
            kinds = [kind for kind in kinds if kind != "null"]
        return self._rng.choice(kinds)

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        fixed: Sequence[Any] = schema.get("prefixItems", ())
        items = schema.get("items", True)
        low, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        usual = (0, 2, 5)[self._size] if depth < DEPTH else 0
        high = low + usual if most is None else min(int(most), low + usual)
        if high < low:
            raise SchemaError("minItems is above maxItems")
        count = self._rng.randint(min(high, max(low, 1 if usual else 0)), high)
        if items is False:
            count = min(count, len(fixed))
        values: list[Any] = []
        seen: set[str] = set()
        tries = 0
        while len(values) < count:
            one = fixed[len(values)] if len(values) < len(fixed) else items
            value = self._value(one, name, depth + 1)
            text = json.dumps(value, sort_keys=True)
            tries += 1
            if schema.get("uniqueItems") and text in seen:
                if tries < 200:
                    continue
                if len(values) >= low:
                    break
                raise SchemaError("not enough different items")
            seen.add(text)
            values.append(value)
        return values

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required = list(schema.get("required", ()))
        share = (0.0, 0.5, 0.8)[self._size] if depth < DEPTH else 0.0
        extra = schema.get("additionalProperties", True)
        value: dict[str, Any] = {}
        most = schema.get("maxProperties", math.inf)
        for key, one in properties.items():
            optional = one is not False and self._rng.random() < share and len(value) + len(required) < most
            if key in required or optional:
                value[key] = self._value(one, key, depth + 1)
        for key in required:
            if key not in value:
                value[key] = self._value(extra, key, depth + 1)
        wanted = int(schema.get("minProperties", 0))
        if not properties and not wanted and extra is not False and share:
            wanted = self._rng.randint(1, 3)
        spare = [key for key in properties if key not in value]
        while len(value) < min(wanted, most):
            if spare:
                key = spare.pop(0)
                value[key] = self._value(properties[key], key, depth + 1)
            elif extra is False:
                raise SchemaError("minProperties is above what the object may have")
            else:
                key = self._prose.word()
                key = key if key not in value else f"{key}_{len(value)}"
                value[key] = self._value(extra, key, depth + 1)
        return value


def _kinds(schema: Schema) -> list[str]:
    kind = schema.get("type")
    return [] if kind is None else [kind] if isinstance(kind, str) else list(kind)


def _implied(schema: Schema) -> str:
    for kind, keys in (
        ("object", ("properties", "required", "additionalProperties", "minProperties")),
        ("array", ("items", "prefixItems", "minItems", "maxItems")),
        ("string", ("pattern", "minLength", "maxLength", "format", "contentMediaType")),
        ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
    ):
        if any(key in schema for key in keys):
            return kind
    return "string"


def _merge(a: Schema, b: Schema) -> Schema:
    """A schema that demands what both do, where that is simple to say."""
    merged = dict(a)
    for key, value in b.items():
        if key not in merged:
            merged[key] = value
        elif key == "properties":
            both = {k: _merge(merged[key][k], v) for k, v in value.items() if k in merged[key]}
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
            kinds = [kind for kind in _kinds(a) if kind in _kinds(b)]
            if "number" in _kinds(a) + _kinds(b) and "integer" in _kinds(a) + _kinds(b) and "integer" not in kinds:
                kinds.append("integer")
            if not kinds:
                raise SchemaError("no type is left")
            merged[key] = kinds if len(kinds) > 1 else kinds[0]
        else:
            merged[key] = value
    return merged
