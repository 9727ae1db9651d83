"""Does attribution find in a mix what its classes cost alone? Usage: python -m benchmarks.gpu.additivity RUNS...

Runs in which all calls have one node are that class alone; runs of several nodes are the mix. Costs are fitted to the
classes alone, all their runs together, and applied to the mix's own steps; that is compared with what attribution makes
of the mix from the mix itself, and with the usual methods. Both have to agree within 10 %, and the parts have to add up
to the counter. It tells most where the classes alone come in several sizes, so that a step's cost can be told from its
tokens'.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rejoule.analysis.attribution import Attribution, attribute, fit, predicted
from rejoule.analysis.attribution.naive import NAIVE
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs

TARGET: Final = 0.1


@dataclass(frozen=True, slots=True)
class Additivity:
    """One run of the mix: joules by class."""

    run: str
    alone_j: Mapping[str, float]
    """By the costs of the classes alone."""
    mixed: Attribution
    naive_j: Mapping[str, Mapping[str, float]]
    """By method, then by class."""
    counted_j: Mapping[str, float]
    """By class, what its runs alone took by the counter, as their mean. The upper bound of a class is held against it,
    the lower one against what the mix took more than the others alone."""
    modelled_total: float
    """All calls by the costs of the classes alone, and idle as measured, over the counter's joules."""

    @property
    def worst(self) -> float:
        """The largest relative difference between both ways, over the classes."""
        found = self.mixed.by_node()
        return max((self.alone_j[name] / found[name].total_j - 1.0 for name in found), key=abs)


def additivity(runs: Sequence[Run]) -> tuple[Additivity, ...]:
    measured = [run for run in runs if run.energy.gpu_j is not None]
    alone = [run for run in measured if len({call.node for call in run.calls}) == 1]
    mixes = [run for run in measured if len({call.node for call in run.calls}) > 1]
    missing = {c.node for run in mixes for c in run.calls} - {c.node for run in alone for c in run.calls}
    if not mixes or missing:
        raise RejouleError(
            f"there are {len(mixes)} runs of a mix and none of {', '.join(sorted(missing)) or 'any mix'} alone",
            "give run folders with each class alone and with both: see benchmarks/gpu/additivity.sh",
        )
    costs, own = fit(alone), fit(mixes)
    counted: dict[str, list[float]] = {}
    for run in alone:
        counted.setdefault(run.calls[0].node, []).append(run.energy.gpu_j or 0.0)
    counted_j = {name: sum(joules) / len(joules) for name, joules in counted.items()}
    found = []
    for run in mixes:
        mixed = attribute(run, own)
        if mixed is None:
            continue
        calls = predicted(run, costs)
        naive = {name: split(run) for name, split in NAIVE.items()}
        found.append(
            Additivity(
                run.id,
                by_class(run, calls),
                mixed,
                {name: by_class(run, joules) for name, joules in naive.items() if joules is not None},
                counted_j,
                (sum(calls.values()) + mixed.idle_j + mixed.unattributed_j) / mixed.gpu_j,
            )
        )
    return tuple(found)


def by_class(run: Run, joules: Mapping[str, float]) -> dict[str, float]:
    found = dict.fromkeys((call.node for call in run.calls), 0.0)
    for call in run.calls:
        found[call.node] += joules[call.id]
    return found


def lines(found: Sequence[Additivity]) -> Iterator[str]:
    for one in found:
        nodes = one.mixed.by_node()
        parts = sum(n.total_j for n in nodes.values()) + one.mixed.idle_j + one.mixed.unattributed_j
        yield f"{one.run}: {one.mixed.gpu_j:.0f} J by the counter, misfit {one.mixed.costs.misfit:.3f}"
        for name, energy in nodes.items():
            error = "" if energy.uncertainty_j is None else f" ± {energy.uncertainty_j:.0f}"
            change = one.alone_j[name] / energy.total_j - 1.0
            others = ", ".join(f"{method} {joules[name]:.0f}" for method, joules in one.naive_j.items())
            yield f"  {name}: attributed {energy.total_j:.0f}{error} J"
            yield f"    from alone {one.alone_j[name]:.0f} ({change:+.1%})"
            bounds, counted = one.mixed.bounds[name], one.counted_j[name]
            saved = one.mixed.gpu_j - sum(joules for other, joules in one.counted_j.items() if other != name)
            off = bounds.saved_j / saved - 1
            yield f"    without it {bounds.saved_j:.0f} less, by the counter {saved:.0f} ({off:+.1%})"
            yield f"    alone {bounds.alone_j:.0f}, by the counter {counted:.0f} ({bounds.alone_j / counted - 1:+.1%})"
            yield f"    {others}"
        yield f"  parts / counter {parts / one.mixed.gpu_j:.9f}, costs from alone / counter {one.modelled_total:.3f}"
        yield f"  worst class {one.worst:+.1%}: {'within' if abs(one.worst) <= TARGET else 'outside'} ±{TARGET:.0%}"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m benchmarks.gpu.additivity RUNS...")
    for line in lines(additivity([run for path in sys.argv[1:] for run in load_runs(Path(path)).runs])):
        print(line)
