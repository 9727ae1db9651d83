"""Finds a user's graph: ``FILE.py:GRAPH`` or ``package.module:GRAPH``."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from rejoule.traces.errors import RejouleError

Graph = Pregel[Any, Any, Any, Any]


async def load_graph(target: str) -> Graph:
    """The graph that a target names: compiled, a builder, or what a function without arguments returns.

    The graph's name may be left out where its file holds only one. The file's folder stays importable afterwards,
    as nodes may import when they run.
    """
    place, _, name = target.rpartition(":") if not target.endswith(".py") else (target, "", "")
    if not place:
        raise RejouleError(f"{target!r} names no graph", "give FILE.py:GRAPH, as in agent.py:graph")
    if not place.endswith(".py") and not all(part.isidentifier() for part in place.split(".")):
        raise RejouleError(f"{place!r} is neither a Python file nor a module", "give FILE.py:GRAPH or MODULE:GRAPH")
    module = _from_file(Path(place)) if place.endswith(".py") else _from_name(place)
    found = _named(module, name, place) if name else _only(module, place)
    return await as_graph(found, f"{place}:{name}" if name else place)


def graphs_in(module: ModuleType) -> list[str]:
    """The names of the graphs and builders that a module holds."""
    return [name for name, value in vars(module).items() if isinstance(value, Pregel | StateGraph)]


def _choosable(module: ModuleType) -> list[str]:
    names = graphs_in(module)
    # A builder beside its compiled graph is the same graph.
    return [name for name in names if isinstance(getattr(module, name), Pregel)] or names


def one_line(error: BaseException) -> str:
    """An exception, however many lines its message has."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _from_file(path: Path) -> ModuleType:
    try:
        there = path.is_file()
    except OSError as error:
        raise RejouleError(f"cannot read {path}: {error.strerror}", "give the path of a Python file") from None
    if not there:
        raise RejouleError(f"there is no file {path}", "give the path of a Python file, as in agent.py:graph")
    path = path.resolve()
    sys.path.insert(0, str(path.parent))
    name = path.stem if path.stem not in sys.modules else f"_recorded_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    # Types are resolved through the module's name, by dataclasses and by LangGraph.
    sys.modules[name] = module
    _imported(partial(spec.loader.exec_module, module), path.name)
    return module


def _from_name(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    module: ModuleType = _imported(partial(import_module, name), name)
    return module


def _imported(load: Callable[[], Any], name: str) -> Any:
    try:
        return load()
    except ModuleNotFoundError as error:
        if error.name == name:
            raise RejouleError(f"there is no module {name!r}", "give FILE.py:GRAPH, or a module on the path") from None
        raise RejouleError(f"importing {name} failed: {' '.join(str(error).split())}", _installing(error)) from error
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        raise RejouleError(
            f"importing {name} failed: {one_line(error)} ({place})",
            "make it importable: python -c 'import …' shows the whole error",
        ) from error


def _installing(error: ModuleNotFoundError) -> str:
    """What brings a missing module; a package mostly has its module's name, with dashes."""
    top, _, rest = (error.name or "").partition(".")
    if not top or (rest and top in sys.modules):
        return f"install what it needs into this environment ({sys.prefix})"
    return f"install it into this environment: {sys.executable} -m pip install {top.replace('_', '-')}"


def _named(module: ModuleType, name: str, place: str) -> Any:
    if not hasattr(module, name):
        raise RejouleError(f"{place} has no {name!r}", _choice(module, place))
    return getattr(module, name)


def _only(module: ModuleType, place: str) -> Any:
    names = _choosable(module)
    if len(names) != 1:
        raise RejouleError(f"{place} holds {len(names)} graphs", _choice(module, place))
    return getattr(module, names[0])


def _choice(module: ModuleType, place: str) -> str:
    names = _choosable(module)
    return f"choose {' or '.join(f'{place}:{name}' for name in names)}" if names else "define a graph there"


async def as_graph(found: Any, target: str) -> Graph:
    """A compiled graph, a builder, or what a function without arguments makes; ``target`` is what errors call it."""
    if inspect.isfunction(found) or inspect.ismethod(found):
        found = await _made(found, target)
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
            "name a compiled graph, a StateGraph, or a function that returns one",
        )
    return found


async def _made(make: Callable[..., Any], target: str) -> Any:
    required = [
        p for p in inspect.signature(make).parameters.values() if p.default is p.empty and p.kind < p.VAR_POSITIONAL
    ]
    if required:
        raise RejouleError(
            f"{target} needs arguments ({', '.join(p.name for p in required)})",
            "name a function without any, or the graph itself",
        )
    try:
        made = make()
        return await made if inspect.isawaitable(made) else made
    except RejouleError:
        raise
    except (Exception, SystemExit) as error:
        raise RejouleError(f"{target}() failed: {one_line(error)}", "make it return a graph") from error
