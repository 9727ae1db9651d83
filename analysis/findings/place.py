"""Where findings are looked for: a trace with its configurations, and knobs that move while all others stay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import orjson

from rejoule.analysis.findings.finding import USERS, Where
from rejoule.analysis.pairing import setting
from rejoule.analysis.summary.cells import Cell, Workload, gather
from rejoule.analysis.summary.naming import describe, turned
from rejoule.traces.arrivals import users_of
from rejoule.traces.engine_options import DEFAULTS
from rejoule.traces.run import OPTION, Configuration, Run, knobs
from rejoule.traces.run_options import as_served
from rejoule.traces.runs import RunFolder

_WITH: Final[Mapping[str, tuple[str, ...]]] = {
    "policy": ("policy_knows", "policy_options."),
    USERS: ("arrivals",),
}
"""What is no knob of its own, but belongs to another one."""
LENGTHS: Final = ("input_scale", "output_scale")


@dataclass(frozen=True)
class Place:
    """One trace of one folder of runs."""

    name: str
    workload: Workload
    folder: Path
    """The run folder; what two folders hold is never compared."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.workload.cells

    @cached_property
    def graphs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(w.graph for w in self._run.workflows))

    @cached_property
    def shape(self) -> str:
        """``chain`` where no workflow ever has two calls to be done at once, by when calls were due."""
        return "fan-out" if any(_wide(self._run)) else "chain"

    @property
    def measured(self) -> bool:
        return self._run.measured

    @property
    def _run(self) -> Run:
        return self.cells[0].trials[0].run

    def matches(self, where: Where) -> bool:
        """Whether it is about such workloads; knobs are not looked at."""
        if where.graph and not any(_like(graph, where.graph) for graph in self.graphs):
            return False
        if where.trace and not _like(self.workload.name, where.trace):
            return False
        return where.shape is None or where.shape == self.shape

    def series(self, knob: str, where: Where | None = None) -> tuple[Series, ...]:
        """The configurations that differ in one knob alone, at two values of it or more."""
        groups: dict[bytes, list[Cell]] = {}
        for cell in self._held(knob, Where() if where is None else where):
            groups.setdefault(rest_of(cell.configuration, (knob,)), []).append(cell)
        names = turned(cell.configuration for cell in self.cells)
        found = []
        for cells in groups.values():
            by_value = {value_of(cell.configuration, knob): cell for cell in cells}
            if len(by_value) > 1:
                ordered = {value: by_value[value] for value in sorted(by_value, key=_order)}
                others = [n for n in names if not _belongs(n, knob) and n != "seed"]
                found.append(Series(self, knob, ordered, describe(cells[0].configuration, others)))
        return tuple(found)

    def _held(self, knob: str, where: Where) -> Iterable[Cell]:
        """The configurations in which the other knobs have the values that are asked for."""
        cells: Sequence[Cell] = self.cells
        for name, wanted in where.knobs.items():
            if name == knob:
                continue
            there = sorted({value_of(cell.configuration, name) for cell in cells}, key=_order)
            kept = chosen(there, wanted)
            # Of a single value nobody can say that it is the least: nothing was compared.
            if len(there) < 2 and wanted in ("least", "most"):
                kept = []
            cells = [cell for cell in cells if value_of(cell.configuration, name) in kept]
        return cells


@dataclass(frozen=True)
class Series:
    """Configurations of a place that differ in one knob, by its values in rising order."""

    place: Place
    knob: str
    cells: Mapping[Any, Cell]
    held: str
    """The other knobs that vary among the runs, in words."""

    def ends(self, start: Any, to: Any) -> list[tuple[Cell, Cell]]:
        """The configurations at both ends; several where several values are asked for, none where one is not there."""
        values = list(self.cells)
        pairs = [(a, b) for a in chosen(values, start) for b in chosen(values, to) if a != b]
        return [(self.cells[a], self.cells[b]) for a, b in pairs]


def places(folders: Iterable[RunFolder]) -> tuple[Place, ...]:
    """The traces of all folders; one that several folders hold is called by its folder, too."""
    found = [(folder, workload) for folder in folders for workload in gather(folder.runs, folder.traces)]
    names = [workload.name for _, workload in found]
    return tuple(
        Place(f"{folder.path.name}/{w.name}" if names.count(w.name) > 1 else w.name, w, folder.path)
        for folder, w in found
    )


def value_of(configuration: Configuration, knob: str) -> Any:
    """A knob's value; an option that is not set has the engine's default, no policy is ``none``."""
    if knob == USERS:
        users = users_of(configuration.arrivals)
        return None if users is None else users.count
    if knob == "policy":
        return configuration.policy or "none"
    return setting(configuration, knob)


def levers(place: Place) -> tuple[str, ...]:
    """The knobs that vary, lengths left out: on the same work they cannot be turned."""
    names = turned(cell.configuration for cell in place.cells)
    owned = [prefix for prefixes in _WITH.values() for prefix in prefixes]
    idle = (*LENGTHS, *_LOAD)
    return tuple(n for n in names if n not in idle and not any(n.startswith(prefix) for prefix in owned))


_LOAD: Final = ("arrivals", "time_scale", "loops", "seed", "engine", "profile")
"""What is asked of the engine, and what it is: no levers of its configuration."""


def sessions(place: Place, cell: Cell) -> int | None:
    """Workflows that are under way at once, at most; of users as many as there are."""
    users = users_of(cell.configuration.arrivals)
    run = cell.trials[0].run
    if users is not None:
        return min(users.count, len(run.workflows))
    changes = sorted([(w.arrival_s, 1) for w in run.workflows] + [(w.end_s, -1) for w in run.workflows])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most or None


def chosen(values: Sequence[Any], wanted: Any) -> list[Any]:
    """Which of a knob's values, in rising order, are meant; of the engine's own nobody knows how large it is."""
    if isinstance(wanted, list):
        return [value for one in wanted for value in chosen(values, one)]
    known = [value for value in values if value is not None]
    match wanted:
        case "default":
            return [value for value in values if value is None]
        case "least":
            return known[:1]
        case "most":
            return list(values[-1:])
        case "any":
            return list(values)
    return [value for value in values if value == wanted and isinstance(value, bool) == isinstance(wanted, bool)]


def rest_of(configuration: Configuration, free: Sequence[str]) -> bytes:
    """All knobs but those that are free, equal for equal ones."""
    found = {f"{OPTION}{name}": value for name, value in DEFAULTS.items()} | {
        name: value
        for name, value in knobs(as_served(configuration)).items()
        if value is not None or not name.startswith(OPTION)
    }
    kept = {name: value for name, value in found.items() if not any(_belongs(name, knob) for knob in free)}
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS, default=str)


def _belongs(name: str, knob: str) -> bool:
    return name == knob or any(name.startswith(prefix) for prefix in _WITH.get(knob, ()))


def _order(value: Any) -> tuple[int, Any]:
    """Numbers rise; words stand after them, and what is left to the engine last."""
    if value is None:
        return (2, 0)
    if isinstance(value, int | float):
        return (0, float(value))
    return (1, str(value))


def _like(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _wide(run: Run) -> Iterable[bool]:
    """For each workflow whether a call was due before another one had ended."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for call in run.calls:
        spans.setdefault(call.workflow, []).append((call.due_s, call.end_s))
    for mine in spans.values():
        mine.sort()
        latest = float("-inf")
        for due_s, end_s in mine:
            if due_s < latest - SLACK_S:
                yield True
                break
            latest = max(latest, end_s)


SLACK_S: Final = 1e-3
"""A client's clock may see a call due just before it has read the end of the one that it waited for."""
