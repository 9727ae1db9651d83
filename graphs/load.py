"""Finds a user's graph: ``FILE.py:GRAPH`` or ``package.module:GRAPH``."""

from __future__ import annotations

import sys
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.memory import InMemoryStore

from rejoule.graphs.made import Graph, one_line, opened
from rejoule.graphs.main_thread import on_main
from rejoule.graphs.project import project_of
from rejoule.traces.errors import RejouleError


def find(target: str) -> tuple[Any, str]:
    """What a target names, and what errors call it: ``FILE.py:GRAPH``, ``MODULE:GRAPH`` or a file alone.

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
    return found, f"{place}:{name}" if name else place


def function_named(target: str) -> Callable[..., Any]:
    """The function that ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION`` names.

    A file that was loaded already, as the graph's is, is not loaded again. Raises RejouleError for none.
    """
    place, _, name = target.rpartition(":")
    path = Path(place).resolve()
    modules = reversed([*sys.modules.values()]) if place.endswith(".py") else ()
    module = next((m for m in modules if getattr(m, "__file__", None) == str(path)), None)
    if module is None:
        module = _from_file(Path(place)) if place.endswith(".py") else _from_name(place)
    function: Callable[..., Any] | None = getattr(module, name, None)
    if not callable(function):
        raise RejouleError(f"{place} has no function {name!r}", "define it there: it is given the final state")
    return function


@asynccontextmanager
async def opened_graph(target: str, config: Mapping[str, Any]) -> AsyncIterator[Graph]:
    """The graph that a target names, through a ``langgraph.json`` or not, made with this config.

    Through one, it has a store in memory where it brings none, which all workflows share, as on LangGraph's own server.
    """
    project = project_of(target)
    with nullcontext() if project is None else project[0].environment():
        # What a module makes when it is imported may belong to the thread that imports it.
        found, name = await on_main(find, target if project is None else project[0].choose(project[1]))
        async with opened(found, name, config) as graph:
            bare = project is not None and graph.store is None
            yield graph.copy({"store": InMemoryStore()}) if bare else graph


def graphs_in(module: ModuleType) -> list[str]:
    """The names of the graphs and builders that a module holds."""
    return [name for name, value in vars(module).items() if isinstance(value, Pregel | StateGraph)]


def _choosable(module: ModuleType) -> list[str]:
    names = graphs_in(module)
    # A builder beside its compiled graph is the same graph.
    return [name for name in names if isinstance(getattr(module, name), Pregel)] or names


def _from_file(path: Path) -> ModuleType:
    try:
        there = path.is_file()
    except OSError as error:
        raise RejouleError(f"cannot read {path}: {error.strerror}", "give the path of a Python file") from None
    if not there:
        raise RejouleError(f"there is no file {path}", "give the path of a Python file, as in agent.py:graph")
    path = path.resolve()
    root, name = _place(path)
    # Files are imported as siblings, too, even from inside a package.
    sys.path[:0] = [str(folder) for folder in dict.fromkeys((root, path.parent))]
    if "." in name:
        return _from_package(name, path)
    _real(name, path)
    name = name if name not in sys.modules else f"_recorded_{name}"
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    # Types are resolved through the module's name, by dataclasses and by LangGraph.
    sys.modules[name] = module
    _imported(partial(spec.loader.exec_module, module), path.name)
    return module


def _place(path: Path) -> tuple[Path, str]:
    """The folder that a file is imported from, and its name there: ``package.module`` inside a package."""
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        names.insert(0, folder.name)
        folder = folder.parent
    if names[-1] == "__init__" and len(names) > 1:
        names.pop()
    return folder, ".".join(names)


def _from_package(name: str, path: Path) -> ModuleType:
    """A module in its package, so that relative imports find what they name."""
    top = name.partition(".")[0]
    known = getattr(sys.modules.get(top), "__path__", None)
    if known is not None and not any(path.is_relative_to(Path(folder).resolve()) for folder in known):
        raise RejouleError(
            f"{path.name} lies in a package {top!r}, and another of that name is imported already",
            "rename the folder, or remove its __init__.py",
        )
    module: ModuleType = _imported(partial(import_module, name), path.name)
    return module


def _real(name: str, path: Path) -> None:
    """Imports the module that a file shares its name with, before the file's folder would come first.

    So both the file and everybody else go on to mean the real one by that name.
    """
    folders = {str(path.parent), ""}
    elsewhere = [entry for entry in sys.path if entry not in folders]
    if name in sys.modules or (PathFinder.find_spec(name, elsewhere) is None and name not in sys.stdlib_module_names):
        return
    before = sys.path[:]
    sys.path[:] = elsewhere
    try:
        # What is named so and cannot be imported is in nobody's way.
        with suppress(Exception):
            import_module(name)
    finally:
        sys.path[:] = before


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
        importer = _importer(error)
        by = f" (imported by {importer})" if importer and importer != name else ""
        raise RejouleError(
            f"importing {name} failed: {' '.join(str(error).split())}{by}", _installing(error, importer)
        ) from error
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        raise RejouleError(
            f"importing {name} failed: {one_line(error)} ({place})",
            "make it importable: python -c 'import …' shows the whole error",
        ) from error


def _importer(error: ModuleNotFoundError) -> str | None:
    """The file, or the installed package, whose import failed."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    outside = [Path(file) for file in files if not file.startswith("<frozen") and "importlib" not in file]
    if not outside:
        return None
    parts = outside[-1].parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1].removesuffix(".py")
    return outside[-1].name


def _installing(error: ModuleNotFoundError, importer: str | None) -> str:
    """What brings a missing module. Which package has it is not known where none is installed."""
    missing = error.name or ""
    top = missing.partition(".")[0]
    if not missing or top in sys.stdlib_module_names:
        return f"make it importable in this environment ({sys.prefix})"
    if owners := packages_distributions().get(top):
        named = " or ".join(dict.fromkeys(owners))
        return f"{named} has no such module here: install a version with it into this environment ({sys.prefix})"
    needs = f"{importer} needs it: " if importer else ""
    return f"{needs}install the package with the module {top!r} into this environment, by {sys.executable} -m pip"


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
