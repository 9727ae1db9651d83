"""``langgraph.json``, by which LangGraph's own server finds graphs: their names, their environment, their folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from rejoule.traces.errors import RejouleError
from rejoule.traces.secrets import is_secret, learn

FILE: Final = "langgraph.json"


@dataclass(frozen=True, slots=True)
class Project:
    """What one such file says, as far as it bears on a recording."""

    file: Path
    graphs: Mapping[str, str]
    """``FILE.py:GRAPH``, or ``MODULE:GRAPH``, by name."""
    variables: Mapping[str, str]
    folders: tuple[Path, ...]
    """Its dependencies that are folders; others have to be installed."""
    indexed: bool
    """Whether it asks for a store that finds by meaning, which takes a server of embeddings."""

    def choose(self, name: str) -> str:
        """The target of a graph by name, or of the only one. Raises RejouleError for none."""
        if name in self.graphs:
            return self.graphs[name]
        if not name and len(self.graphs) == 1:
            return next(iter(self.graphs.values()))
        wrong = f"has no graph {name!r}" if name else f"names {len(self.graphs)} graphs"
        raise RejouleError(
            f"{self.file} {wrong}", f"choose {' or '.join(f'{self.file}:{graph}' for graph in self.graphs)}"
        )

    @contextmanager
    def environment(self) -> Iterator[None]:
        """Its variables, where they are not set yet, while the context is open; its folders stay importable."""
        for folder in reversed(self.folders):
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
        ours = {name: value for name, value in self.variables.items() if name not in os.environ}
        learn(value for name, value in ours.items() if is_secret(name))
        os.environ.update(ours)
        try:
            yield
        finally:
            for name in ours:
                os.environ.pop(name, None)


def project_of(target: str) -> tuple[Project, str] | None:
    """The project that ``langgraph.json``, its folder, or either with ``:NAME`` means, with the name; or ``None``."""
    for place, name in ((target, ""), (target.rpartition(":")[0], target.rpartition(":")[2])):
        path = Path(place)
        # What is too long to be a path is none.
        if place and os.path.isdir(place) and (path / FILE).is_file():  # noqa: PTH112
            return _read(path / FILE), name
        if place.endswith(".json"):
            return _read(path), name
    return None


def remarks_on(target: str) -> tuple[str, ...]:
    """What of the target's ``langgraph.json``, if it names one, is not as on LangGraph's server, a sentence each."""
    project = project_of(target)
    if project is None or not project[0].indexed:
        return ()
    return (f"the store of {project[0].file} is made without its index: searches in it do not go by meaning",)


def _read(file: Path) -> Project:
    try:
        said = orjson.loads(file.read_bytes())
    except OSError as error:
        raise RejouleError(f"cannot read {file}: {error.strerror}", f"give a {FILE}, or FILE.py:GRAPH") from None
    except orjson.JSONDecodeError as error:
        raise RejouleError(f"{file} is no JSON: {error}", "correct it there") from None
    listed = said.get("graphs") if isinstance(said, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise RejouleError(f"{file} names no graphs", 'write {"graphs": {"agent": "./agent.py:graph"}} there')
    root = file.parent
    dependencies = said.get("dependencies") or []
    if not isinstance(dependencies, list):
        raise RejouleError(f"the dependencies in {file} are no list", 'write "dependencies": ["."] there')
    local = [root / d for d in dependencies if isinstance(d, str) and d.startswith(".") and (root / d).is_dir()]
    return Project(
        file,
        {name: _target(file, name, value) for name, value in listed.items()},
        _variables(file, said.get("env")),
        tuple(dict.fromkeys(path.resolve() for folder in local for path in _importable(folder))),
        isinstance(store := said.get("store"), dict) and bool(store.get("index")),
    )


def _importable(folder: Path) -> Iterator[Path]:
    yield folder
    if (folder / "src").is_dir():
        yield folder / "src"
    if (folder / "__init__.py").is_file():
        yield folder.resolve().parent


def _target(file: Path, name: str, value: Any) -> str:
    words = value.get("path") if isinstance(value, dict) else value
    if not isinstance(words, str) or ":" not in words:
        raise RejouleError(f"{file}: graph {name!r} has no place", 'write it as in "./agent.py:graph" there')
    place, _, graph = words.rpartition(":")
    return f"{file.parent / place}:{graph}" if place.endswith(".py") else words


def _variables(file: Path, env: Any) -> dict[str, str]:
    if env is None:
        return {}
    if isinstance(env, dict):
        return {str(name): str(value) for name, value in env.items()}
    if not isinstance(env, str):
        raise RejouleError(f"env in {file} is neither a file's name nor an object", 'write "env": ".env" there')
    try:
        lines = (file.parent / env).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise RejouleError(f"cannot read {file.parent / env}, the env of {file}", "write that file") from None
    pairs = (line.strip().removeprefix("export ").partition("=") for line in lines if not line.strip().startswith("#"))
    return {name.strip(): _value(value.strip()) for name, equals, value in pairs if equals and name.strip()}


def _value(text: str) -> str:
    """Quoted ones as they are; others end where a comment begins."""
    if text[:1] in ("'", '"') and (end := text.find(text[0], 1)) > 0:
        return text[1:end]
    return text.partition(" #")[0].rstrip()
