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
from rejoule.replay.embedded.schema_document import DEPTH, LAST, Document, implied_kind, kinds_of, merge


class Writer:
    """Writes values for the schemas of one document."""

    def __init__(self, root: Schema | bool, rng: random.Random, prose: Prose, size: int = 2) -> None:
        self._document = Document(root)
        self._rng = rng
        self._prose = prose
        self._size = size

    def value(self) -> Any:
        """A value for the whole schema."""
        return self._value(self._document.root, "", 0)

    def _value(self, schema: Schema | bool, name: str, depth: int) -> Any:
        if depth > LAST:
            raise SchemaError("the schema never ends")
        if isinstance(schema, bool):
            self._document.count()
            if not schema:
                raise SchemaError("nothing obeys the schema false")
            return self._prose.word()
        if not isinstance(schema, Mapping):
            raise SchemaError("a schema is an object or a boolean")
        schema = self._document.resolved(schema)
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

    def _enum(self, schema: Schema) -> Any:
        kinds = kinds_of(schema)
        values = [v for v in schema["enum"] if not kinds or any(is_a(v, kind) for kind in kinds)]
        if not values:
            raise SchemaError("an enum without a value")
        return self._rng.choice(values)

    def _branch(self, schema: Schema, key: str, name: str, depth: int) -> Any:
        document = self._document
        rest = {k: v for k, v in schema.items() if k != key}
        branches = list(schema[key])
        if not branches:
            raise SchemaError(f"{key} without a branch")
        if depth >= DEPTH or self._size == 0:
            branches.sort(key=document.weight)
        else:
            self._rng.shuffle(branches)
        for branch in branches:
            try:
                merged = branch if branch is False else merge(rest, {} if branch is True else document.resolved(branch))
                return self._value(merged, name, depth + 1)
            except SchemaError as error:
                failure = error
        raise failure

    def _kind(self, schema: Schema, depth: int) -> str:
        kinds = kinds_of(schema)
        if not kinds:
            return implied_kind(schema)
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
