"""Lone decodes and long prompts of each model's grid: how long a step takes, what it reaches of the data sheet, and
what a token costs, measured and by each way to come by a profile.

Measured and simulated grids are read by one rule: a step's time is the median over the cell, joules a token are the
mean power of its load by the time that a token takes in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Final

from benchmarks.gpu.sensors import row
from benchmarks.sizes_measured.fits import Constants, base, ideal
from benchmarks.sizes_measured.parts import SHORT
from benchmarks.validation import in_virtual_time, ran, written

from rejoule.replay.calibration.grid import QUICK, grid
from rejoule.replay.calibration.observations import ObservedStep, observed_steps
from rejoule.replay.calibration.outside import WATTS, Shown, shown
from rejoule.replay.calibration.quick import grid_run
from rejoule.replay.sim.latency import LatencyModel
from rejoule.replay.sim.profile import Profile
from rejoule.traces.run import CallResult, Run

DECODE: Final = "decode-"
CELLS: Final = {
    "decode-b1-c128": "lone decode at 128 tokens",
    "decode-b1-c8192": "lone decode at 8192 tokens",
    "prefill-n4096-c0": "prompts of 4096 tokens, one after another",
}


@dataclass(frozen=True, slots=True)
class Reached:
    """What a cell shows."""

    step_s: float
    of_sheet: float
    """The least that the data sheet's bandwidth or peak allow, over ``step_s``."""
    j_per_token: float | None


def reached(runs: Sequence[Run], cell: str, profile: Profile) -> Reached | None:
    """Means over trials; ``profile`` is of the runs' model and GPU. ``None`` where the cell has no such steps."""
    found = [each for run in runs if (each := _reached(run, cell, profile)) is not None]
    if not found:
        return None
    joules = [each.j_per_token for each in found if each.j_per_token is not None]
    step_s, of_sheet = (fmean(getattr(each, name) for each in found) for name in ("step_s", "of_sheet"))
    return Reached(step_s, of_sheet, fmean(joules) if joules else None)


def _reached(run: Run, cell: str, profile: Profile) -> Reached | None:
    calls = [call for call in run.calls if call.node == cell and call.error is None]
    begin_s, end_s = min((c.sent_s for c in calls), default=0.0), max((c.end_s for c in calls), default=0.0)
    longest = max((c.prompt_tokens or 0 for c in calls), default=0)
    steps = [s for s in observed_steps(run) if begin_s <= s.start_s < end_s and _is_of(s, cell, longest)]
    if not steps:
        return None
    step_s = median(s.each_s for s in steps)
    sheet = LatencyModel(ideal(profile), run.configuration.max_num_seqs)
    demand = sheet.demand(steps[len(steps) // 2].work)
    watts = shown(run, {cell}).get(Shown(WATTS, cell))
    joules = None if watts is None else watts * _token_s(calls, cell)
    return Reached(step_s, max(demand.compute_s, demand.memory_s) / step_s, joules)


def _is_of(step: ObservedStep, cell: str, longest: int) -> bool:
    """Whether a step is of the kind that the cell is there for, not one that begins or ends it."""
    work = step.work
    if cell.startswith(DECODE):
        return (work.prefills, work.decodes) == (0, 1)
    return (work.prefills, work.prefill_tokens, work.decodes) == (1, longest, 0)


def _token_s(calls: Sequence[CallResult], cell: str) -> float:
    """From the first answer on: tokens of the lone answer, or of the prompts behind the first one."""
    if cell.startswith(DECODE):
        (call,) = calls
        first_s = call.sent_s if call.first_token_s is None else call.first_token_s
        return (call.end_s - first_s) / ((call.output_tokens or 0) - 1)
    ordered = sorted(calls, key=lambda call: call.end_s)
    return (ordered[-1].end_s - ordered[0].end_s) / sum(call.prompt_tokens or 0 for call in ordered[1:])


def simulated(run: Run, model: str, way: Constants, cell_s: float) -> Run:
    """The grid of a measured run on the profile of its ``model``."""
    limits = replace(grid_run(run).limits, cell_s=cell_s)
    trace = grid(base(model), limits, kinds=QUICK)
    with written(way.profile(model)) as path:
        return ran(trace, in_virtual_time(run.configuration, path), "grid", "grid")


def table(grids: Mapping[str, Sequence[Run]], ways: Sequence[Constants], cell_s: float) -> Iterator[str]:
    """Measured values, and by each way the errors of the step's time and of the joules a token."""
    yield row("grid", "cell", "step, ms", "of the data sheet", "J a token", *(f"{w.words}: time, joules" for w in ways))
    yield row("---", "---", *["--:"] * (3 + len(ways)))
    for model, runs in grids.items():
        sheet = base(model)
        virtual = [simulated(runs[0], model, way, cell_s) for way in ways]
        for cell, words in CELLS.items():
            if (real := reached(runs, cell, sheet)) is None:
                yield row(SHORT[model], words, "not measured", *["–"] * (2 + len(ways)))
                continue
            joules = "–" if real.j_per_token is None else f"{real.j_per_token:.4g}"
            guesses = (reached([run], cell, sheet) for run in virtual)
            yield row(
                SHORT[model],
                words,
                f"{1e3 * real.step_s:.2f}",
                f"{real.of_sheet:.1%}",
                joules,
                *(_errors(guess, real) for guess in guesses),
            )


def _errors(guess: Reached | None, real: Reached) -> str:
    if guess is None:
        return "–"
    a, b = guess.j_per_token, real.j_per_token
    joules = "–" if a is None or b is None else f"{a / b - 1:+.1%}"
    return f"{guess.step_s / real.step_s - 1:+.1%}, {joules}"


def other_lengths(grids: Mapping[str, Sequence[Run]], cell_s: float) -> Iterator[str]:
    """That a grid that is simulated asks for other lengths than the measured one, which a limit on power may show."""
    for model, runs in grids.items():
        limits = replace(grid_run(runs[0]).limits, cell_s=cell_s)
        asked = [c.output_tokens for c in grid(base(model), limits, kinds=QUICK).calls if c.node in CELLS]
        given = [c.output_tokens for c in runs[0].calls if c.node in CELLS]
        if asked != given:
            yield (
                f"the grid of {SHORT[model]} was measured with cells of another length than the {cell_s:g} s that are "
                "simulated: give --cell-s"
            )
