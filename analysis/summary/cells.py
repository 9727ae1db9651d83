"""What the page shows: runs gathered by workload and configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import fsum
from typing import Any, Final, TypeVar

from rejoule.analysis.attribution import Attribution, PhaseEnergy, quadrature
from rejoule.analysis.statistics import Mean, mean
from rejoule.analysis.summary.evidence import Evidence, pooled
from rejoule.analysis.summary.lines import agents, line
from rejoule.analysis.summary.load import other_loads, under_one_load
from rejoule.analysis.summary.naming import describe, is_foreign, measured_apart, set_apart, turned
from rejoule.analysis.summary.summary import Summary, trials
from rejoule.analysis.summary.trust import withheld
from rejoule.traces.chosen import policy_notes
from rejoule.traces.model import Trace
from rejoule.traces.parrot_told import parrot_notes
from rejoule.traces.ran_on import drifts
from rejoule.traces.run import Configuration, Run, configuration_key, knobs
from rejoule.traces.run_options import as_served
from rejoule.traces.warmth import coldest, warmth_notes

K = TypeVar("K", bound=str | None)

FULL_SHARE: Final = 0.01
"""Of calls preempted: above, it is said of a configuration's joules that its KV cache was full."""
GRID = ("max_num_seqs", "power_cap_w")
"""The knobs that span the heatmaps."""


@dataclass(frozen=True)
class Cell:
    """One configuration of one workload, with its trials."""

    configuration: Configuration
    label: str
    facet: str
    """The knobs that vary besides batch size and power cap."""
    trials: tuple[Summary, ...]
    warmer: tuple[Run, ...] = ()
    """Trials that are left out: they found what others had left in a server's prefix cache."""

    @cached_property
    def drifts(self) -> tuple[str, ...]:
        """What a reader must know of how alike the trials are, and of their policy."""
        runs = [s.run for s in self.trials]
        found = [f"its trials differ: {drift}" for drift in drifts(runs)]
        apart = measured_apart(run.configuration for run in runs)
        return (*warmth_notes([*runs, *self.warmer]), *policy_notes(runs), *parrot_notes(runs), *apart, *found)

    def mean(self, value: Callable[[Summary], float | None]) -> Mean | None:
        """Over the trials in which it is known."""
        known = [v for v in map(value, self.trials) if v is not None]
        return mean(known) if known else None

    @cached_property
    def energy_j(self) -> float | None:
        return _value(self.mean(lambda s: s.gpu_j))

    @cached_property
    def latency_s(self) -> float | None:
        """Median over workflows."""
        return _value(self.mean(lambda s: s.figures.workflow_p50_s))

    @cached_property
    def jobs(self) -> tuple[float, float] | None:
        """Workflows an hour a user, and an hour a GPU."""
        user = _value(self.mean(lambda s: s.figures.workflows_per_user_h))
        gpu = _value(self.mean(lambda s: s.figures.workflows_per_gpu_h))
        return None if user is None or gpu is None else (user, gpu)

    @cached_property
    def bound_fraction(self) -> float | None:
        return _value(self.mean(lambda s: s.run.power_cap.bound_fraction))

    @cached_property
    def in_force_w(self) -> float | None:
        return _value(self.mean(lambda s: s.run.power_cap.in_force_w))

    @property
    def unmet_cap(self) -> bool:
        """The engine did not put the requested cap in force."""
        wanted, found = self.configuration.power_cap_w, self.in_force_w
        return wanted is not None and found is not None and abs(wanted - found) > 0.5

    @property
    def failed_calls(self) -> int:
        return sum(len(s.run.failed_calls) for s in self.trials)

    @property
    def complete(self) -> bool:
        """Whether all the work was done, so that its energy may be compared."""
        return not self.failed_calls and all(w.complete for s in self.trials for w in s.run.workflows)

    @cached_property
    def nodes(self) -> dict[str, PhaseEnergy]:
        """Mean joules by node; none where they are withheld."""
        return self._mean_parts(lambda found: found.by_node())

    @cached_property
    def agents(self) -> dict[str, PhaseEnergy]:
        """Mean joules by agent; none where they are withheld, or where there are not several agents."""
        return self._mean_parts(lambda found: found.by_agent()) if agents(self.trials[0].run) else {}

    def _mean_parts(self, split: Callable[[Attribution], Mapping[K, PhaseEnergy]]) -> dict[str, PhaseEnergy]:
        if self.withheld:
            return {}
        found = [split(s.attribution) for s in self.trials if s.attribution is not None]
        names = dict.fromkeys(name for trial in found for name in trial)
        return {
            line(name): PhaseEnergy(
                fsum(trial[name].prefill_j for trial in found if name in trial) / len(found),
                fsum(trial[name].decode_j for trial in found if name in trial) / len(found),
                part_half_width_j(
                    [trial[name].total_j for trial in found if name in trial],
                    [trial[name].uncertainty_j for trial in found if name in trial],
                ),
            )
            for name in names
        }

    @property
    def withheld(self) -> str | None:
        return withheld(s.attribution for s in self.trials)

    @cached_property
    def evidence(self) -> Evidence:
        return pooled([s.evidence for s in self.trials])

    @cached_property
    def idle_j(self) -> float | None:
        return _value(self.mean(lambda s: s.idle_j))

    @cached_property
    def tool_wait_j(self) -> float | None:
        return _value(self.mean(lambda s: s.tool_wait_j))

    @cached_property
    def unattributed_j(self) -> float | None:
        return _value(self.mean(lambda s: None if s.attribution is None else s.attribution.unattributed_j))


@dataclass(frozen=True)
class Workload:
    """One trace with every configuration that it was replayed under."""

    name: str
    trace: Trace | None
    cells: tuple[Cell, ...]

    @cached_property
    def alike(self) -> tuple[Cell, ...]:
        """Configurations under one load: which of those is best is a question."""
        return under_one_load(self.cells, _settings)

    @property
    def other_loads(self) -> tuple[str, ...]:
        """What must be said of best and worst where several loads were run."""
        return tuple(other_loads(self.cells, _settings))

    @cached_property
    def ranked(self) -> tuple[Cell, ...]:
        """Those that did all the work, by energy, least first."""
        usable = [cell for cell in self.alike if cell.complete and cell.energy_j is not None]
        return tuple(sorted(usable, key=lambda cell: cell.energy_j or 0.0))

    @property
    def best(self) -> Cell | None:
        return self.ranked[0] if self.ranked else None

    @property
    def worst(self) -> Cell | None:
        return self.ranked[-1] if len(self.ranked) > 1 else None

    @cached_property
    def default(self) -> Cell | None:
        """The configuration that leaves the engine's own batch size and power limit in force."""
        plain = [c for c in self.alike if c.configuration.max_num_seqs is None and c.configuration.power_cap_w is None]
        return plain[0] if plain else None

    @cached_property
    def front(self) -> tuple[Cell, ...]:
        """Configurations that no other beats in both energy and latency, fastest first (the Pareto front)."""
        timed = [cell for cell in self.ranked if cell.latency_s is not None]
        return _front(timed, lambda c: (_known(c.latency_s), _known(c.energy_j)))

    @cached_property
    def job_front(self) -> tuple[Cell, ...]:
        """Configurations that no other beats in both workflows an hour a user and an hour a GPU, by the first, most
        first; those that did all the work alone."""
        known = [cell for cell in self.alike if cell.complete and cell.jobs is not None]

        def less(cell: Cell) -> tuple[float, float]:
            user, gpu = cell.jobs or (0.0, 0.0)
            return -user, -gpu

        return _front(known, less)

    @cached_property
    def knee(self) -> Cell | None:
        """The point of the front farthest below the line between its ends, both axes scaled to 0…1."""
        if len(self.front) < 3:
            return None
        first, last = self.front[0], self.front[-1]
        width = _known(last.latency_s) - _known(first.latency_s)
        height = _known(first.energy_j) - _known(last.energy_j)

        def below(cell: Cell) -> float:
            x = (_known(cell.latency_s) - _known(first.latency_s)) / width
            y = (_known(cell.energy_j) - _known(last.energy_j)) / height
            return 1.0 - x - y

        knee = max(self.front[1:-1], key=below)
        return knee if below(knee) > 0.0 else None

    @cached_property
    def facets(self) -> dict[str, tuple[Cell, ...]]:
        names = dict.fromkeys(cell.facet for cell in self.cells)
        return {name: tuple(cell for cell in self.cells if cell.facet == name) for name in names}

    @cached_property
    def chosen(self) -> dict[str, Cell]:
        """The few configurations worth a closer look, by why."""
        found: dict[str, Cell] = {}
        foreign = self.default is not None and is_foreign(self.default.configuration)
        plain = "no knob set" if foreign else "default"
        for why, cell in (("least energy", self.best), (plain, self.default), ("most energy", self.worst)):
            if cell is not None and cell not in found.values():
                found[why] = cell
        return found or {"first": self.cells[0]}


def gather(
    runs: Sequence[Run], traces: Mapping[str, Trace], among: Sequence[Run] | None = None
) -> tuple[Workload, ...]:
    """Workloads in the order of the traces, their configurations by batch size and cap.

    Configurations are told apart by what varies in these runs, or, where these are a choice, among all of them; not by
    how their runs were measured, which makes trials of one that say so.
    """
    by_trace: dict[str, dict[str, list[Run]]] = {name: {} for name in traces}
    for run in runs:
        by_trace.setdefault(run.trace, {}).setdefault(configuration_key(as_served(run.configuration)), []).append(run)
    found = []
    for name, groups in by_trace.items():
        names = turned(run.configuration for run in (runs if among is None else among) if run.trace == name)
        shown = tuple(n for n in GRID if n in names) or (GRID[0],)
        rest = tuple(n for n in names if n not in GRID)
        cells = [_cell(group, (*shown, *rest), rest) for group in groups.values()]
        if cells:
            found.append(Workload(name, traces.get(name), tuple(sorted(cells, key=_order))))
    return tuple(found)


def _cell(group: Sequence[Run], names: Sequence[str], rest: Sequence[str]) -> Cell:
    held = group[0].configuration
    found = coldest(sorted(group, key=lambda r: r.trial))
    label = describe(held, (*names, *set_apart(held)))
    return Cell(held, label, describe(held, rest), trials(found.alike), found.warmer)


def _front(cells: Iterable[Cell], place: Callable[[Cell], tuple[float, float]]) -> tuple[Cell, ...]:
    """Those that no other beats in both of two figures, of which less is better; by the first of them."""
    kept: list[Cell] = []
    for cell in sorted(cells, key=place):
        if not kept or place(cell)[1] < place(kept[-1])[1]:
            kept.append(cell)
    return tuple(kept)


def part_half_width_j(joules: Sequence[float], widths: Sequence[float | None]) -> float | None:
    """Of the mean over trials: their spread, and what each attribution leaves open, which trials share."""
    known = [width for width in widths if width is not None]
    # Trials agree on what all of them miss: without widths of their own, their spread would say nothing of it.
    if not known or len(known) < len(joules):
        return None
    spread = mean(joules).interval
    half = None if spread is None else (spread.high - spread.low) / 2.0
    return quadrature(half, fsum(known) / len(known))


def _order(cell: Cell) -> tuple[str, float, float]:
    c = cell.configuration
    return (cell.facet, c.max_num_seqs or float("inf"), c.power_cap_w or float("inf"))


def _settings(cell: Cell) -> Mapping[str, Any]:
    return knobs(cell.configuration)


def _value(found: Mean | None) -> float | None:
    return None if found is None else found.value


def _known(value: float | None) -> float:
    return float("inf") if value is None else value


def axis(cells: Iterable[Cell], name: str) -> tuple[float | None, ...]:
    """The values of a knob, ascending, with ``None`` (the engine's own) last."""
    values = {getattr(cell.configuration, name) for cell in cells}
    return tuple(sorted(values, key=lambda v: float("inf") if v is None else v))
