"""Any Python object as plain data that a trace can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

DEEPEST = 12


def jsonable(value: Any, depth: int = 0) -> Any:
    """The same as dictionaries, lists and scalars; what has no such form becomes the name of its type."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if depth == DEEPEST:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {str(k): jsonable(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(v, depth + 1) for v in value]
    if hasattr(value, "model_dump"):
        return jsonable(value.model_dump(), depth + 1)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: jsonable(getattr(value, f.name), depth + 1) for f in fields(value)}
    return f"<{type(value).__name__}>"
