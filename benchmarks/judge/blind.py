"""How far off joules by node are where the engine's steps, or the sensors' readings, are not known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import fsum
from statistics import median
from typing import Final

from benchmarks.judge.loads import LOADS, Load
from benchmarks.judge.made import made

from rejoule.analysis.attribution import Method, attribute
from rejoule.analysis.energy import spent
from rejoule.traces.run import Run

METHODS: Final[Sequence[Method]] = ("step times", "client readings", "client times")
SEEN: Final = tuple(load for load in LOADS if not load.company.any and not load.unrecorded_cache)
"""Those in which nothing else goes wrong."""


def unseen(run: Run, method: Method) -> Run:
    """The run as it is known with this method."""
    run = replace(run, readings=None) if method.endswith("times") else run
    return replace(run, steps=None) if method.startswith("client") else run


def errors(load: Load, seed: int) -> dict[Method, dict[str, float]]:
    """By method, (said − true) / true of each node."""
    judged = made(load, seed)
    true = {name: joules for (kind, name), joules in judged.lines().items() if kind == "nodes"}
    found: dict[Method, dict[str, float]] = {}
    for method in METHODS:
        said = attribute(unseen(judged.run, method))
        if said is not None:
            found[method] = {name: said.by_node()[name].total_j / joules - 1.0 for name, joules in true.items()}
    return found


def stated(load: Load) -> dict[Method, list[float]]:
    """By method, the relative half-widths that nodes state with two trials."""
    trials = [made(load, 0, trial).run for trial in range(2)]
    found: dict[Method, list[float]] = {}
    for method in METHODS:
        (shown,) = spent([unseen(run, method) for run in trials])
        halves = [(part.uncertainty_j, part.energy_j) for part in shown.parts if part.name != "idle"]
        found[method] = [half / joules for half, joules in halves if half is not None]
    return found


def stated_row(found: Sequence[dict[Method, list[float]]]) -> str:
    every = [[half for one in found for half in one[method]] for method in METHODS]
    return "| ± of two trials, median | " + " | ".join(f"±{median(h):.1%}" if h else "none" for h in every) + " |"


def table(found: Sequence[tuple[Load, Sequence[dict[Method, dict[str, float]]]]]) -> Iterator[str]:
    """For each load and method, the least and the greatest bias of a node; then those of all loads."""
    yield "| load | " + " | ".join(METHODS) + " |"
    yield "|---|" + "--:|" * len(METHODS)
    every: dict[Method, list[float]] = {method: [] for method in METHODS}
    for load, runs in found:
        cells = []
        for method in METHODS:
            names = dict.fromkeys(name for run in runs for name in run[method])
            known = [[run[method][name] for run in runs if name in run[method]] for name in names]
            biases = [fsum(values) / len(values) for values in known]
            every[method] += biases
            cells.append(_range(biases))
        yield f"| {load.name} | " + " | ".join(cells) + " |"
    yield "| all | " + " | ".join(_range(every[method]) for method in METHODS) + " |"


def _range(biases: Sequence[float]) -> str:
    return f"{min(biases):+.0%} to {max(biases):+.0%}"
