"""How far simulated runs are from measured ones, and whether they order configurations alike.

Runs are taken together by trace and by the knobs and options that both engines have; a cell is one trace under one
configuration. An option that only one of them has is told apart too where it varies.
Its error is that of the mean over trials. A difference between two configurations of one trace counts where the
measured one exceeds its noise: the 95 % interval of the difference of means (Welch, *Biometrika* 34, 1947) and the
uncertainty that the meter states, whichever is more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import fsum, hypot, sqrt
from typing import Any, Final

from rejoule.analysis.comparison.unseen import unseen_notes
from rejoule.analysis.summary.naming import describe, measured_apart, varying
from rejoule.traces.engine_options import DEFAULTS, GPUS, KV_MEMORY
from rejoule.traces.errors import RejouleError
from rejoule.traces.figures import tensor_parallel, told_tensor_parallel
from rejoule.traces.modelled import worth, worth_notes
from rejoule.traces.percentiles import percentile
from rejoule.traces.ran_on import drifts
from rejoule.traces.run import OPTION, Run, knobs
from rejoule.traces.run_options import of_the_run
from rejoule.traces.student import t_quantile
from rejoule.traces.summary import first_tokens_s
from rejoule.traces.waits import served
from rejoule.traces.warmth import coldest, warmth_notes
from rejoule.traces.words import counted

APART: Final = ("engine", "profile", "loops", "seed")
"""Knobs that a simulated and a measured run need not share, nor those that are of the run alone."""
UNKNOWN_NOISE: Final = 0.033
"""Relative: what a difference must exceed where one trial leaves the spread of runs unknown (1 % on an H200)."""
AGREEMENT: Final = 0.95
"""Share of the differences whose sign must agree for the verdict to be good."""


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: str
    value: Callable[[Run], float | None]
    compared: bool = False
    """Whether the differences between configurations are judged by it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one trace under one configuration: means over trials."""

    trace: str
    configuration: str
    simulated: float
    measured: float

    @property
    def error(self) -> float:
        """Relative to the measured value."""
        return self.simulated / self.measured - 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """The errors of one metric over all cells."""

    metric: str
    unit: str
    cells: tuple[Cell, ...]

    @property
    def bias(self) -> float:
        return fsum(c.error for c in self.cells) / len(self.cells)

    @property
    def mape(self) -> float:
        """Mean absolute relative error."""
        return fsum(abs(c.error) for c in self.cells) / len(self.cells)

    @property
    def worst(self) -> Cell:
        return max(self.cells, key=lambda c: abs(c.error))


@dataclass(frozen=True, slots=True)
class Difference:
    """Between two configurations of one trace, ``b`` less ``a``, in one metric."""

    metric: str
    trace: str
    a: str
    b: str
    simulated: float
    measured: float
    noise: float
    """Half-width of what the measured one may be by chance."""

    @property
    def decisive(self) -> bool:
        return abs(self.measured) > self.noise

    @property
    def agrees(self) -> bool:
        """Whether the simulation says the same of which is more."""
        return self.simulated * self.measured > 0.0


@dataclass(frozen=True, slots=True)
class Validation:
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    @property
    def decisive(self) -> tuple[Difference, ...]:
        return tuple(d for d in self.differences if d.decisive)

    @property
    def agreement(self) -> float | None:
        """Share of the decisive differences whose sign agrees; ``None`` without any."""
        found = self.decisive
        return sum(d.agrees for d in found) / len(found) if found else None

    def ranks(self) -> dict[tuple[str, str], bool]:
        """For each metric and trace with a decisive difference, whether the order of configurations is the same."""
        found: dict[tuple[str, str], bool] = {}
        for d in self.decisive:
            found[d.metric, d.trace] = found.get((d.metric, d.trace), True) and d.agrees
        return found

    @property
    def verdict(self) -> str:
        """One line."""
        if self.agreement is None:
            return "no measured difference between configurations exceeds its noise: signs and ranks are untested"
        count, ranks = len(self.decisive), self.ranks()
        good = sum(d.agrees for d in self.decisive)
        word = "good" if self.agreement >= AGREEMENT else "poor"
        errors = {row.metric: row.mape for row in self.rows}
        named = ", ".join(f"{name} {100 * errors[name]:.1f} %" for name in VERDICT if name in errors)
        return (
            f"{word}: {good} of {count} measured differences have the same sign, {sum(ranks.values())} of {len(ranks)} "
            f"orders of configurations are the same; mean error of {named}"
        )


def validate(simulated: Sequence[Run], measured: Sequence[Run]) -> Validation:
    """Compares the cells that both sides have. Raises RejouleError if a side is of the wrong kind, or none match."""
    _check_kinds(simulated, measured)
    names = _compared(simulated) | _compared(measured)
    side_a, everything = _cells(simulated, names), _cells(measured, names)
    side_b = {key: list(coldest(runs).alike) for key, runs in everything.items()}
    shared = [key for key in side_b if key in side_a]
    if not shared:
        raise RejouleError(
            "no simulated run has the trace and the knobs of a measured one",
            f"replay the same traces with the same knobs; {_first(side_a, 'simulated')}; {_first(side_b, 'measured')}",
        )
    labels = {key: _named(key, side_b) for key in shared}
    rows, differences = [], []
    for metric in METRICS:
        values = {key: (_values(metric, side_a[key]), _values(metric, side_b[key])) for key in shared}
        known = [key for key in shared if all(values[key])]
        cells = [Cell(key[0], labels[key], _mean(values[key][0]), _mean(values[key][1])) for key in known]
        cells = [cell for cell in cells if cell.measured > 0]
        if cells:
            rows.append(Row(metric.name, metric.unit, tuple(cells)))
        if metric.compared:
            for a, b in combinations(known, 2):
                if a[0] == b[0]:
                    noise = _noise(metric, values[a][1], values[b][1], side_b[a], side_b[b])
                    deltas = [_mean(values[b][side]) - _mean(values[a][side]) for side in (0, 1)]
                    differences.append(Difference(metric.name, a[0], labels[a], labels[b], deltas[0], deltas[1], noise))
    return Validation(tuple(rows), tuple(differences), tuple(_notes(side_a, everything, shared)))


def as_json(found: Validation) -> dict[str, Any]:
    """For machines: errors by metric and by cell, and every difference."""
    return {
        "verdict": found.verdict,
        "agreement": found.agreement,
        "metrics": [
            {
                "metric": row.metric,
                "unit": row.unit,
                "bias": row.bias,
                "mape": row.mape,
                "cells": [
                    {
                        "trace": c.trace,
                        "configuration": c.configuration,
                        "simulated": c.simulated,
                        "measured": c.measured,
                        "error": c.error,
                    }
                    for c in row.cells
                ],
            }
            for row in found.rows
        ],
        "differences": [
            {
                "metric": d.metric,
                "trace": d.trace,
                "a": d.a,
                "b": d.b,
                "simulated": d.simulated,
                "measured": d.measured,
                "noise": d.noise,
                "decisive": d.decisive,
                "agrees": d.agrees,
            }
            for d in found.differences
        ],
        "ranks": [{"metric": m, "trace": t, "agrees": same} for (m, t), same in found.ranks().items()],
        "notes": list(found.notes),
    }


_Key = tuple[str, tuple[tuple[str, Any], ...]]
"""A trace, and what both sides share, by name."""


def _check_kinds(simulated: Sequence[Run], measured: Sequence[Run]) -> None:
    for run in simulated:
        if run.configuration.engine != "sim":
            raise RejouleError(f"{run.id} was not simulated", "give the simulated runs first, then the measured ones")
    for run in measured:
        if run.configuration.engine == "sim":
            raise RejouleError(f"{run.id} was simulated", "give the simulated runs first, then the measured ones")


def _compared(runs: Sequence[Run]) -> set[str]:
    """What of these runs' configurations the other side has to share.

    Which option says how much the KV cache holds need not be the same, unless it is what was varied.
    """
    always = {f"{OPTION}{name}" for name in DEFAULTS if name not in KV_MEMORY}
    plain = {name for run in runs for name in knobs(run.configuration) if not name.startswith(OPTION)}
    return {n for n in always | plain | set(varying(run.configuration for run in runs)) if _is_shared(n)}


def _is_shared(name: str) -> bool:
    return name not in APART and not of_the_run(name)


def _shared(run: Run, names: set[str]) -> Iterator[tuple[str, Any]]:
    # A profile of two GPUs is what a server that was told to use two is.
    found = knobs(run.configuration) | {f"{OPTION}{GPUS}": tensor_parallel(run)}
    for name in sorted(names):
        value = found.get(name, DEFAULTS.get(name.removeprefix(OPTION)))
        yield name, str(value) if isinstance(value, list | dict) else value


def _cells(runs: Iterable[Run], names: set[str]) -> dict[_Key, list[Run]]:
    found: dict[_Key, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.trace, tuple(_shared(run, names))].append(run)
    return dict(found)


def _named(key: _Key, side: Mapping[_Key, list[Run]]) -> str:
    differing = [n for n in varying(runs[0].configuration for runs in side.values()) if _is_shared(n)]
    return describe(side[key][0].configuration, differing)


def _first(side: Mapping[_Key, list[Run]], what: str) -> str:
    trace, values = next(iter(side))
    shared = ", ".join(
        f"{n.removeprefix('options.')}={v}"
        for n, v in values
        if v is not None and v != DEFAULTS.get(n.removeprefix(OPTION))
    )
    return f"the first {what} is {trace} with {shared}"


def _notes(simulated: Mapping[_Key, list[Run]], measured: Mapping[_Key, list[Run]], shared: list[_Key]) -> list[str]:
    notes = []
    for side, what in ((simulated, "simulated"), (measured, "measured")):
        if lone := len(side) - len(shared):
            notes.append(f"{counted(lone, f'{what} configuration')} without a counterpart left out")
    unlike = sum(len({_work(run) for run in (*simulated[key], *measured[key])}) > 1 for key in shared)
    if unlike:
        notes.append(f"in {unlike} of {len(shared)} cells the two sides did not do the same work")
    untold = sum(told_tensor_parallel(run) is None for key in shared for run in measured[key])
    if untold:
        notes.append(f"{counted(untold, 'measured run')} did not tell over how many GPUs it was served: taken for 1")
    rejected = sum(bool(r.conditions and r.conditions.rejected) for key in shared for r in measured[key])
    if rejected:
        notes.append(f"{counted(rejected, 'measured run')} marked as not to be used for their joules")
    notes += dict.fromkeys(note for key in shared for note in _blocks(simulated[key], measured[key]))
    profiles = sorted({_profile(run) for key in shared for run in simulated[key]})
    notes += dict.fromkeys(f"measured runs differ: {drift}" for key in shared for drift in drifts(measured[key]))
    notes += dict.fromkeys(note for key in shared for note in measured_apart(r.configuration for r in measured[key]))
    notes += dict.fromkeys(note for key in shared for note in warmth_notes(measured[key]))
    notes += worth_notes(run for key in shared for run in simulated[key])
    notes += unseen_notes(run for key in shared for run in (*simulated[key], *measured[key]))
    return [*notes, f"simulated with {', '.join(profiles)}"]


def _profile(run: Run) -> str:
    """With what it was fitted to, where it was put together and no other note says so; that its own model is not among
    those, others say."""
    together = None if worth(run) is not None else run.engine.get("fitted_together")
    return f"{run.engine.get('profile')}" + (
        f" (fitted to {together} together: its model is among them)" if together else ""
    )


def _blocks(simulated: Sequence[Run], measured: Sequence[Run]) -> Iterator[str]:
    told = [[run.engine.get("num_gpu_blocks") for run in side] for side in (simulated, measured)]
    sides = [sorted({count for count in counts if isinstance(count, int)}) for counts in told]
    if all(sides) and sides[0] != sides[1]:
        a, b = (" and ".join(f"{count:,}" for count in side) for side in sides)
        yield f"simulated with {a} KV blocks, measured with {b}"


def _work(run: Run) -> tuple[object, ...]:
    # Lengths alone: the same words need not come back for the same time and power.
    return tuple((c.id, c.prompt_tokens, c.output_tokens) for c in run.calls)


def _values(metric: Metric, runs: Iterable[Run]) -> list[float]:
    return [value for run in runs if (value := metric.value(run)) is not None]


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _noise(metric: Metric, a: Sequence[float], b: Sequence[float], runs_a: list[Run], runs_b: list[Run]) -> float:
    told = hypot(_stated(metric, runs_a), _stated(metric, runs_b))
    if len(a) < 2 or len(b) < 2:
        return max(told, UNKNOWN_NOISE * max(_mean(a), _mean(b)))
    of_a, of_b = _variance(a) / len(a), _variance(b) / len(b)
    if not of_a + of_b:
        return told
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    return max(told, t_quantile(0.975, max(1, int(freedom))) * sqrt(of_a + of_b))


def _variance(values: Sequence[float]) -> float:
    centre = _mean(values)
    return fsum((v - centre) ** 2 for v in values) / (len(values) - 1)


def _stated(metric: Metric, runs: Sequence[Run]) -> float:
    """What the meter says of the mean's uncertainty, in the metric's unit."""
    if metric.name != ENERGY:
        return 0.0
    stated = [run.energy.uncertainty_j.get("gpu", 0.0) for run in runs]
    return hypot(*stated) / len(stated)


def _between_tokens_s(run: Run) -> float | None:
    seconds, tokens = [], 0
    for call in run.calls:
        if call.first_token_s is not None and call.error is None and (call.output_tokens or 0) > 1:
            seconds.append(call.end_s - call.first_token_s)
            tokens += (call.output_tokens or 0) - 1
    return fsum(seconds) / tokens if tokens else None


def _workflow_s(run: Run) -> float | None:
    seconds = [w.end_s - w.arrival_s for w in served(run)]
    return _mean(seconds) if seconds else None


def _power_w(run: Run) -> float | None:
    joules = run.energy.gpu_j
    return joules / run.makespan_s if joules is not None and run.makespan_s > 0 else None


def _clock_mhz(run: Run) -> float | None:
    """Mean SM clock while the engine worked."""
    if run.conditions is not None and run.conditions.sm_clock_mhz is not None:
        return run.conditions.sm_clock_mhz
    busy = [(s.end_s - s.start_s, s.sm_clock_mhz) for s in run.steps or () if not s.idle and s.sm_clock_mhz is not None]
    total = fsum(seconds for seconds, _ in busy)
    return fsum(seconds * clock for seconds, clock in busy) / total if total else None


ENERGY: Final = "GPU energy"
METRICS: Final = (
    Metric("time to first token, mean", "s", lambda r: _mean(t) if (t := first_tokens_s(r)) else None),
    Metric("time to first token, p50", "s", lambda r: percentile(first_tokens_s(r), 50)),
    Metric("time to first token, p99", "s", lambda r: percentile(first_tokens_s(r), 99)),
    Metric("time between tokens", "s", _between_tokens_s),
    Metric("workflow time", "s", _workflow_s, compared=True),
    Metric("makespan", "s", lambda r: r.makespan_s, compared=True),
    Metric(ENERGY, "J", lambda r: r.energy.gpu_j, compared=True),
    Metric("average power", "W", _power_w, compared=True),
    Metric("SM clock under load", "MHz", _clock_mhz),
)
VERDICT: Final = (ENERGY, "workflow time", "time between tokens", "time to first token, mean")
