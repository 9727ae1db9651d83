"""A full KV cache on an H200 beside the simulator's: python -m benchmarks.full_kv_measured [--write].

Of ``benchmarks/h200/full-kv``, and ``full-kv-uncached`` where it exists, as ``gpu/full_kv.sh`` measures them. Every
run is simulated too: with the default profile, and with one that ``rejoule calibrate --quick`` fits to the quick grid
of the same card. Prints what was preempted and computed again, joules and times, how far off the simulated ones are,
and the causes of what few blocks and few seats cost.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from statistics import fmean
from typing import Final

from benchmarks.client import put
from benchmarks.full_batches import CLOCK
from benchmarks.full_kv import COLUMNS, PAGE, caused, found_in, load_of, mean_of
from benchmarks.gpu.policies import BLOCKS
from benchmarks.gpu.sensors import row
from benchmarks.quick import ALONE
from benchmarks.validation import DATA, PROFILE, in_virtual_time, ran, written

from rejoule.analysis.pairing import Pair
from rejoule.analysis.validate import METRICS, validate
from rejoule.replay.calibration.quick import grid_run, quick_fit
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.model import Trace
from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs
from rejoule.traces.summary import first_tokens_s

FOLDERS: Final = (DATA / "full-kv", DATA / "full-kv-uncached")
GRIDS: Final = (DATA / "unseen-grid", DATA / "unseen-grid-second", DATA / "unseen-grid-trials", DATA / "sizes-8b")
"""Quick grids of cards that no shipped profile was fitted to."""
SEED: Final = 1
"""Of the load that was measured."""
MEASURED: Final = "measured"

Cell = tuple[int, int | None]
"""KV blocks and batch."""
Sources = Mapping[str, Sequence[Run]]
"""The measured runs and those that are simulated of them, in one order."""


def simulated(run: Run, trace: Trace, profile: str) -> Run:
    """The replay of a measured run in virtual time."""
    return ran(trace, in_virtual_time(run.configuration, profile), run.trace, run.id, run.trial)


def own_profile(real: Sequence[Run]) -> Profile | None:
    """A profile fitted to the quick grid of the card of ``real``; ``None`` if that was not measured."""
    cards = {run.conditions.gpus for run in real if run.conditions is not None}
    for run in (run for grid in GRIDS for run in load_runs(grid).runs):
        whole = any(call.node == ALONE for call in run.calls)
        if whole and run.conditions is not None and cards == {run.conditions.gpus}:
            return quick_fit(load_profile(PROFILE), [grid_run(run)]).profile
    return None


def sources(real: Sequence[Run]) -> Sources:
    def virtual(profile: str) -> list[Run]:
        return [simulated(run, load_of(SEED), profile) for run in real]

    found = {MEASURED: real, "simulated": virtual(PROFILE)}
    if (own := own_profile(real)) is not None:
        with written(own) as path:
            found["simulated, calibrated"] = virtual(path)
    return found


def cells(runs: Sequence[Run]) -> dict[Cell, list[int]]:
    """Where the trials of each configuration are, the most joules first."""
    found: dict[Cell, list[int]] = {}
    for i, run in enumerate(runs):
        found.setdefault((run.configuration.options[BLOCKS], run.configuration.max_num_seqs), []).append(i)
    return dict(sorted(found.items(), key=lambda item: -fmean(runs[i].energy.gpu_j or 0.0 for i in item[1])))


def same_calls(a: Run, b: Run) -> float:
    """The share of calls that were preempted equally often in both."""
    theirs = {call.id: call.preemptions for call in b.calls}
    return fmean(call.preemptions == theirs[call.id] for call in a.calls)


def alike(real: Sequence[Run], runs: Sequence[Run]) -> str:
    """How alike runs preempt what the measured ones do; measured ones themselves, what their trials do."""
    pairs = list(combinations(real, 2)) if runs is real else list(zip(real, runs, strict=True))
    return f"{fmean(same_calls(a, b) for a, b in pairs):.0%}" if pairs else "–"


def clock_mhz(run: Run) -> float:
    (found,) = (metric.value(run) for metric in METRICS if metric.name == CLOCK)
    assert found is not None
    return found


def figures(found: Sources) -> Iterator[str]:
    """A row a configuration and source; joules beside the thriftiest configuration's of that source."""
    more = ("against the last", "first token, s", "steps", "SM clock, MHz", "limit bound", "calls preempted alike")
    heads = (*(name for name, _ in COLUMNS), *more)
    yield row("KV blocks", "batch", "", *heads)
    yield row("--:", "--:", "---", *["--:"] * len(heads))
    places = cells(found[MEASURED])
    least = list(places.values())[-1]
    for (blocks, batch), at in places.items():
        real = [found[MEASURED][i] for i in at]
        for name, runs in found.items():
            mine = real if name == MEASURED else [runs[i] for i in at]
            one, beside = (mean_of(map(found_in, group)) for group in (mine, [runs[i] for i in least]))
            yield row(
                f"{blocks:,}",
                batch,
                name,
                *(shown(one) for _, shown in COLUMNS),
                f"{one.energy_j / beside.energy_j - 1.0:+.1%}",
                f"{fmean(fmean(first_tokens_s(run)) for run in mine):.2f}",
                f"{fmean(sum(step.steps for step in run.steps or ()) for run in mine):,.0f}",
                f"{fmean(clock_mhz(run) for run in mine):,.0f}",
                f"{fmean(run.power_cap.bound_fraction or 0.0 for run in mine):.0%}",
                alike(real, mine),
            )


def errors(found: Sources) -> Iterator[str]:
    """How far the simulated figures are off, over all configurations."""
    real = found[MEASURED]
    rows = {name: validate(runs, real).rows for name, runs in found.items() if name != MEASURED}
    yield row("", *(head for name in rows for head in (f"{name}: mean error", "worst")))
    yield row("---", *["--:"] * (2 * len(rows)))
    for each in zip(*rows.values(), strict=True):
        yield row(each[0].metric, *(f"{size:+.1%}" for one in each for size in (one.bias, one.worst.error)))


def reasons(found: Sources) -> Iterator[str]:
    """Why each configuration takes more than the next: of measured runs, and of simulated ones divided as measured ones
    are, without what they say themselves that their steps are made of, and with it."""
    real, virtual = list(found.values())[:2]
    ways = {MEASURED: real, "simulated, divided alike": [unsaid(run) for run in virtual], "simulated": virtual}
    yield row("KV blocks, batch", "against", "", "joules", "causes")
    yield row("---", "---", "---", "--:", "---")
    places = list(cells(real).items())
    for ((blocks, batch), b), ((others, other), a) in reversed(list(pairwise(places))):
        for name, runs in ways.items():
            pairs = [Pair(runs[i], runs[j]) for i, j in zip(a, b, strict=True)]
            yield row(f"{blocks:,}, {batch}", f"{others:,}, {other}", name, *caused(pairs))


def unsaid(run: Run) -> Run:
    return replace(run, steps=tuple(replace(step, makeup=()) for step in run.steps or ()))


def main() -> None:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.full_kv_measured",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    given = options.parse_args()
    for folder in filter(Path.exists, FOLDERS):
        found = sources(load_runs(folder).runs)
        for name, lines in (("measured", figures(found)), ("errors", errors(found)), ("reasons", reasons(found))):
            text = "\n".join(lines)
            print(f"\n{folder.name}-{name}\n\n{text}")
            if given.write:
                put(PAGE, f"{folder.name}-{name}", text)


if __name__ == "__main__":
    main()
