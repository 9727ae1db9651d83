"""The cells to run next, as an experiment file."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import orjson

from rejoule.analysis.advice.answer import Advice
from rejoule.analysis.advice.candidates import Candidate
from rejoule.analysis.advice.matrix import configured
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Configuration, knobs

HEAD: Final = (
    "# What `rejoule advise` would run next: rejoule run {name} -o RUNS, then rejoule advise with both folders."
)


def experiment(found: Advice, chosen: Sequence[Candidate], traces: Path, trials: int, name: str) -> str:
    """An experiment file, ``name``, of these cells of one workload; ``traces`` is the folder that holds its trace.

    Raises RejouleError without a cell, or where the trace is not there.
    """
    if not chosen:
        raise RejouleError(
            f"{found.trace}: there is nothing to run", "leave --write out, or widen what is thought of: --consider"
        )
    file = next((p for p in sorted(traces.glob(f"{found.trace}.jsonl*"))), None)
    if file is None:
        raise RejouleError(f"{traces} has no trace {found.trace}", "give the run folder that the replay wrote")
    shared = knobs(found.like)
    lines = [HEAD.format(name=shlex.quote(name)), f"traces = [{_toml(str(file.resolve()))}]", f"trials = {trials}", ""]
    lines += ["[configuration]", *_pairs(_set(shared, [n for n in shared if n not in chosen[0].settings]))]
    for one in chosen:
        whole = knobs(configured(found.like, one.settings))
        lines += ["", "[[cells]]", *_pairs(_set(whole, one.settings))]
    return "\n".join(lines) + "\n"


def _set(found: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Knobs that are not left to the engine, with options in a table of their own."""
    usual = {f.name: getattr(Configuration(), f.name) for f in fields(Configuration)}
    kept: dict[str, Any] = {}
    for name in names:
        value = found.get(name)
        group, dot, own = name.partition(".")
        if value is None or (not dot and name != "engine" and value == usual.get(name)):
            continue
        if dot:
            kept.setdefault(group, {})[own] = value
        else:
            kept[name] = value
    return kept


def _pairs(found: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_toml(value)}" for name, value in found.items()]


def _toml(value: Any) -> str:
    """JSON is TOML for text, numbers, switches and lists of them; tables are written inline."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(str(k))} = {_toml(v)}" for k, v in value.items()) + " }"
    return orjson.dumps(value).decode()
