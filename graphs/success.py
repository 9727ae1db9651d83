"""Whether a workflow reached its goal, told by its final state: by a function, or by a test of one of its keys."""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any, Final

import orjson

from rejoule.graphs.load import function_named
from rejoule.graphs.made import Graph, one_line
from rejoule.traces.errors import RejouleError

REMEDY: Final = "write KEY, KEY=VALUE, KEY!=VALUE, KEY>=NUMBER (or >, <, <=), or FILE.py:FUNCTION of the final state"
_FUNCTION: Final = re.compile(r"[^=<>!]+:[^=<>!:.\s]+")
_TEST: Final = re.compile(r"\s*(?P<path>[^=<>!\s]+)\s*(?:(?P<sign>==|!=|>=|<=|=|>|<)\s*(?P<value>[^=\s].*?)\s*)?")
_ORDERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


class UndecidedError(Exception):
    """A final state does not say whether its workflow reached its goal."""


@dataclass(frozen=True, slots=True)
class Told:
    """Of one workflow."""

    success: bool | None
    reason: str | None = None
    """Why it is not known."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """What is asked of a final state."""

    text: str
    test: Callable[[Any], Any]
    key: str | None = None
    """The state's key that it looks at; ``None`` of a function."""

    def of(self, state: Any) -> Told:
        """A state that it fails on, or of which it says neither, stays unknown."""
        try:
            found = self.test(state)
        except UndecidedError as error:
            return Told(None, str(error))
        except (Exception, SystemExit) as error:
            return Told(None, f"{self.text} failed: {one_line(error)}")
        if isinstance(found := _plain(found), bool):
            return Told(found)
        return Told(None, f"{self.text} gave {_short(found)}, neither true nor false")

    def check(self, graph: Graph) -> None:
        """Raises RejouleError for a key that no state of the graph can have."""
        keys = getattr(getattr(graph, "builder", None), "channels", None)
        if self.key is not None and keys and self.key not in keys:
            raise RejouleError(
                f"the graph's state has no {self.key!r}, which success is to be told by", f"it has {', '.join(keys)}"
            )


def criterion(asked: str | Callable[[Any], Any]) -> Criterion:
    """A function of the final state, its name as in ``FILE.py:FUNCTION``, or a test of a key, as in ``score>=0.5``.

    Dots lead into what a key holds: ``review.score``, ``messages.-1.content``. Raises RejouleError for anything else.
    """
    if callable(asked):
        return Criterion(getattr(asked, "__name__", "the function"), _called(asked, "it"))
    if not isinstance(asked, str):
        raise RejouleError(f"success = {asked!r} tells nothing of a final state", REMEDY)
    if _FUNCTION.fullmatch(asked):
        return Criterion(asked, _called(function_named(asked), asked))
    found = _TEST.fullmatch(asked)
    if found is None:
        raise RejouleError(f"{asked!r} tells nothing of a final state", REMEDY)
    path, sign, value = found["path"].split("."), found["sign"], found["value"]
    if not all(path):
        raise RejouleError(f"{asked!r} names no key", REMEDY)
    return Criterion(asked, _key_test(path, sign, value), path[0])


def _called(function: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    if inspect.iscoroutinefunction(function):
        raise RejouleError(f"{name} is a coroutine function", "give a plain function of the final state")
    return function


def _key_test(path: list[str], sign: str | None, value: str | None) -> Callable[[Any], bool]:
    name = ".".join(path)
    if sign is None or value is None:

        def holds(state: Any) -> bool:
            if isinstance(found := _at(state, path), bool):
                return found
            raise UndecidedError(f"{name} is {_short(found)}, neither true nor false: write {name}=VALUE")

        return holds
    given = _json_or_text(value)
    if sign in ("=", "==", "!="):

        def equals(state: Any) -> bool:
            found = _at(state, path)
            # Text that looks like JSON is also itself: verdict=1 is so of "1".
            same = found == value if isinstance(found, str) else found == given
            return bool(same) == (sign != "!=")

        return equals
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise RejouleError(f"'{name}{sign}{value}' compares with no number", REMEDY)

    def compares(state: Any) -> bool:
        found = _at(state, path)
        if isinstance(found, bool) or not isinstance(found, int | float) or isnan(found):
            raise UndecidedError(f"{name} is {_short(found)}, no number")
        return _ORDERS[sign](found, given)

    return compares


def _at(state: Any, path: list[str]) -> Any:
    """What lies there: keys of mappings, places of lists, attributes of other objects."""
    found, walked = state, "the final state"
    for step in path:
        try:
            if isinstance(found, Mapping):
                found = found[step]
            elif isinstance(found, list | tuple):
                found = found[int(step)]
            elif step.startswith("_") or callable(getattr(found, step)):
                raise AttributeError(step)
            else:
                found = getattr(found, step)
        except (KeyError, IndexError, ValueError, AttributeError):
            raise UndecidedError(f"{walked} has no {step!r}") from None
        walked = step
    return _plain(found)


def _plain(value: Any) -> Any:
    """A number of NumPy's, or of a tensor, as Python's."""
    item = None if isinstance(value, bool | int | float | str) else getattr(value, "item", None)
    try:
        return item() if callable(item) else value
    except (TypeError, ValueError, RuntimeError):
        return value


def _json_or_text(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _short(value: Any) -> str:
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= _MOST else f"{shown[:_MOST]}…"


_MOST: Final = 40
