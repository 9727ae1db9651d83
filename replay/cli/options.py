"""Command-line options that take several values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import click
import orjson

from rejoule.traces import RejouleError


class _List(click.ParamType[list[float | None]]):
    """Positive numbers separated by commas; ``none`` stands for the engine's own default."""

    def __init__(self, name: str, number: Callable[[str], float]) -> None:
        self.name = name
        self._number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float | None]:
        if isinstance(value, list):
            return value
        found = [self._one(word.strip(), value, param, ctx) for word in str(value).split(",")]
        return list(dict.fromkeys(found))

    def _one(self, word: str, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if word in ("none", "default"):
            return None
        try:
            number = self._number(word)
        except ValueError:
            number = 0
        if not 0 < number < float("inf"):
            self.fail(f"{value!r} is not a list of positive {self.name}: separate them by commas", param, ctx)
        return number


class _Names(click.ParamType[list[str]]):
    """Names separated by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, list):
            return value
        found = [word.strip() for word in str(value).split(",")]
        if not all(found):
            self.fail(f"{value!r} is not a list of names: separate them by commas", param, ctx)
        return list(dict.fromkeys(found))


class FiniteRange(click.FloatRange):
    """A number in a range; infinity and what is no number lie in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


integers = _List("integers", int)
floats = _List("numbers", float)


names = _Names()


def engine_options(
    words: Sequence[str], flag: str = "--option", example: str = "tensor_parallel_size=2"
) -> dict[str, Any]:
    """``KEY=VALUE`` words as a mapping; a value that is JSON is taken as that, any other as text."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise RejouleError(f"{flag} {word!r} is not KEY=VALUE", f"as in {flag} {example}")
        try:
            found[key.replace("-", "_")] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[key.replace("-", "_")] = value
    return found
