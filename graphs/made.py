"""A compiled graph, of whatever a file offers: a builder, a factory, a context manager, an object that is called."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from rejoule.graphs.main_thread import on_main
from rejoule.traces.errors import RejouleError

Graph = Pregel[Any, Any, Any, Any]

MOST: Final = 4
"""Steps from what is named to its graph: a class, its object, a coroutine, a context manager."""


@asynccontextmanager
async def opened(found: Any, target: str, config: Mapping[str, Any]) -> AsyncIterator[Graph]:
    """The graph of ``found``, which ``target`` is the name of in errors; what it opened is closed at the end.

    A factory that takes an argument is given the config. Raises RejouleError for what makes no graph.
    """
    async with AsyncExitStack() as held:
        for _ in range(MOST):
            if isinstance(found, Pregel | StateGraph):
                break
            step = _step(found, target, config)
            if step is None:
                break
            try:
                found = await step(held)
            except RejouleError:
                raise
            except (Exception, SystemExit) as error:
                raise RejouleError(f"{target}() failed: {one_line(error)}", _remedy(error, config)) from error
        yield _compiled(found, target)


def one_line(error: BaseException) -> str:
    """An exception, however many lines its message has."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _step(found: Any, target: str, config: Mapping[str, Any]) -> Callable[[AsyncExitStack], Any] | None:
    """One step nearer to the graph; ``None`` where there is none."""
    if hasattr(found, "__aenter__") and not isinstance(found, type):
        return lambda held: held.enter_async_context(found)
    if hasattr(found, "__enter__") and not isinstance(found, type):
        return lambda held: _now(held.enter_context(found))
    if inspect.isawaitable(found):
        return lambda held: found
    if callable(found):
        arguments = _arguments(found, target, config)
        # Generators that yield a graph are context managers without their decorator.
        if inspect.isasyncgenfunction(found):
            return lambda held: _now(asynccontextmanager(found)(*arguments))
        if inspect.isgeneratorfunction(found):
            return lambda held: _now(contextmanager(found)(*arguments))
        return lambda held: on_main(found, *arguments)
    return None


async def _now(value: Any) -> Any:
    return value


def _arguments(make: Callable[..., Any], target: str, config: Mapping[str, Any]) -> tuple[Any, ...]:
    try:
        parameters = [p for p in inspect.signature(make).parameters.values() if p.kind < p.VAR_POSITIONAL]
    except ValueError:
        # Some of C's classes tell no signature.
        return ()
    required = [p for p in parameters if p.default is p.empty]
    if len(required) > 1 or not all(map(_is_config, required)):
        raise RejouleError(
            f"{target} needs arguments ({', '.join(p.name for p in required)})",
            "name a function without any, or with the config alone, or the graph itself",
        )
    takes = bool(required) or (bool(parameters) and _is_config(parameters[0]))
    return ({**config, "configurable": dict(config.get("configurable") or {})},) if takes else ()


def _is_config(parameter: inspect.Parameter) -> bool:
    """By its name or its type, which may be a string of it."""
    kind = parameter.annotation
    words = f"{parameter.name} {kind if isinstance(kind, str) else getattr(kind, '__name__', kind)}".lower()
    return "config" in words or "cfg" in words


def _remedy(error: BaseException, config: Mapping[str, Any]) -> str:
    if isinstance(error, KeyError) and error.args and error.args[0] not in (config.get("configurable") or {}):
        return f"give it with --configurable {error.args[0]}=VALUE, in Python with config=…; or make it return a graph"
    return "make it return a graph"


def _compiled(found: Any, target: str) -> Graph:
    if isinstance(found, StateGraph):
        try:
            found = found.compile()
        except ValueError as error:
            raise RejouleError(
                f"{target} does not compile: {' '.join(str(error).split())}", "complete the graph"
            ) from error
    if not isinstance(found, Pregel):
        raise RejouleError(
            f"{target} is no graph but {type(found).__name__!r}",
            "name a compiled graph, a StateGraph, or a function or context manager that gives one",
        )
    return found
