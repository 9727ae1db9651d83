"""The profile that a quick calibration makes: its parent's, but for what one card and one host have of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from rejoule.replay.calibration.capping import clocked
from rejoule.replay.calibration.clock_curve import found_curve
from rejoule.replay.calibration.grid import Limits
from rejoule.replay.calibration.observations import power_readings
from rejoule.replay.calibration.origin import check_measured, measured_on, on_their_gpus, serving, untold_note
from rejoule.replay.calibration.outside import FIRST, at_once
from rejoule.replay.calibration.quick import MEASURE, Fitted, GridRun, Seen, broken, of_grid, quick_fit
from rejoule.replay.calibration.served import overrun
from rejoule.replay.sim.profile import ClockCurve, Profile, Serving
from rejoule.replay.sim.shipped import OTHERS
from rejoule.traces import RejouleError
from rejoule.traces.run import Run
from rejoule.traces.words import counted, in_percent

FAR: Final = 0.1
FAR_FIRST: Final = 0.3
"""A mean absolute error of its own cells above which a fit has failed; of first tokens, which differ by themselves. On
an H200 it was up to 6 % (``benchmarks.quick``)."""


@dataclass(frozen=True, slots=True)
class QuickCalibration:
    """A child profile, and what it is worth on the cells that it was fitted to."""

    profile: Profile
    parent: Profile
    fitted: Fitted
    notes: tuple[str, ...]

    @property
    def known(self) -> Mapping[str, float]:
        """Relative standard error of each constant that moved."""
        return self.fitted.known

    @property
    def undetermined(self) -> frozenset[str]:
        """Constants that stay near the parent's values, since the cells say little of them."""
        return self.fitted.undetermined

    @property
    def errors(self) -> dict[str, tuple[int, float, float]]:
        """By what was seen: how often, and the mean absolute error of the parent and of the child."""
        before, after = sizes(self.fitted.before), sizes(self.fitted.after)
        return {what: (count, size, after[what][1]) for what, (count, size) in before.items()}

    def as_json(self) -> dict[str, Any]:
        return {
            "profile": self.profile.name,
            "parent": self.parent.name,
            "timing": msgspec.to_builtins(self.profile.timing),
            "power": msgspec.to_builtins(self.profile.power),
            "relative_standard_error": dict(self.known),
            "undetermined": sorted(self.undetermined),
            "errors": {what: {"count": n, "before": a, "after": b} for what, (n, a, b) in self.errors.items()},
            "provenance": dict(self.profile.provenance),
            "notes": list(self.notes),
        }


def quick_calibrate(
    parent: Profile,
    name: str,
    measured: Sequence[GridRun],
    *,
    timing_only: bool = False,
    on_replay: Callable[[int], None] = lambda _: None,
) -> QuickCalibration:
    """A child of ``parent``, called ``name``, for the card and the host that the quick grid was ``measured`` on.

    ``on_replay`` is told how often the grid was simulated so far. Raises RejouleError for runs of other hardware, of
    modelled joules, or that show too little.
    """
    others = [each.run.id for each in measured if not of_grid(each, parent)]
    if len(others) < len(measured):
        measured = [each for each in measured if each.run.id not in others]
    runs = [each.run for each in measured]
    parent = on_their_gpus(parent, runs)
    check_measured(parent, runs, timing_only=timing_only)
    modelled = [run.id for run in runs if run.energy.gpu_j is not None and not run.measured]
    if modelled and not timing_only:
        raise RejouleError(f"the joules of {modelled[0]} are modelled", f"{MEASURE}; or fit --timing-only")
    fitted = quick_fit(parent, measured, timing_only=timing_only, on_replay=on_replay)
    what = "Times of a host" if timing_only else "Watts of a card and times of a host"
    profile = replace(
        fitted.profile,
        name=name,
        source=f"{what}, from a quick calibration; all else is that of {parent.name}. {parent.source}",
        serving=_serving(parent.serving, measured),
        sources={**parent.sources, **_sources(parent, fitted)},
        provenance={
            **measured_on(parent, runs, timing_only),
            "fitted by": "rejoule calibrate --quick",
            **_others(parent),
            **{f"{what} MAPE": f"{size:.4f}" for what, (_, size) in sizes(fitted.after).items()},
        },
        held_out={},
        # Known of the parent on other cards, not of what was fitted here.
        expected_error=None,
        clock_curve=_curve(parent, fitted.profile, runs, timing_only),
    )
    left = [f"{counted(len(others), 'run')} of other traces left out, first {others[0]}"] if others else []
    return QuickCalibration(profile, parent, fitted, (*left, *_notes(parent, measured, fitted, timing_only)))


def _curve(parent: Profile, fitted: Profile, runs: Sequence[Run], timing_only: bool) -> ClockCurve | None:
    readings = [reading for run in runs for reading in power_readings(run, ())]
    if timing_only or (clocked(runs) and not readings):
        return parent.clock_curve
    return found_curve(parent, fitted, runs, readings)


def _others(parent: Profile) -> dict[str, str]:
    """That what does not move is still of other models, if so."""
    others = parent.provenance.get(OTHERS)
    return {} if others is None else {OTHERS: f"{others}, but for what a quick calibration moves"}


def _serving(held: Serving, grids: Sequence[GridRun]) -> Serving:
    """Limits as the servers told them; of one that did not, those that its grid was made for, if they are not the usual
    ones and so were given or asked for."""
    found = serving(held, [each.run for each in grids])
    first, usual = grids[0].limits, Limits()
    own = {
        "max_num_seqs": (first.max_num_seqs, usual.max_num_seqs),
        "max_num_batched_tokens": (first.max_num_batched_tokens, usual.max_num_batched_tokens),
        "num_gpu_blocks": (first.kv_tokens // found.block_size, usual.kv_tokens // found.block_size),
    }
    silent = {n for n in own if all(each.run.engine.get(n) is None for each in grids)}
    return replace(found, **{n: value for n, (value, other) in own.items() if n in silent and value != other})


def sizes(errors: Seen) -> dict[str, tuple[int, float]]:
    """By what was seen: how often, and the mean absolute error."""
    kinds = dict.fromkeys(what.what for _, what in errors)
    each = {kind: [abs(error) for (_, what), error in errors.items() if what.what == kind] for kind in kinds}
    return {kind: (len(found), fmean(found)) for kind, found in each.items()}


def _sources(parent: Profile, fitted: Fitted) -> dict[str, str]:
    return {
        name: f"not determined by the quick calibration; near that of {parent.name}"
        if name in fitted.undetermined
        else f"quick calibration; relative standard error {error:.2g}"
        for name, error in fitted.known.items()
    }


def _notes(parent: Profile, grids: Sequence[GridRun], fitted: Fitted, timing_only: bool) -> Iterator[str]:
    for what, (_, size) in sizes(fitted.after).items():
        if size > (FAR_FIRST if what == FIRST else FAR):
            yield (
                f"cells are still off by {in_percent(size)} in {what}: {parent.name} is not of what was measured, or "
                "something else ran beside it; do not trust the child"
            )
    runs = [each.run for each in grids]
    if (untold := untold_note(parent, runs)) is not None:
        yield untold
    for each in grids:
        seen, asked = at_once(each.run)
        if seen < asked:
            what = f"{each.run.id}: {seen} calls at most were answered at a time where {asked} were meant to be"
            yield f"{what}: make the grid for the server's batch size, --max-num-seqs {seen}"
        if (small := overrun(each.run, each.limits)) is not None:
            yield small
        if cells := broken(each.run):
            first = each.run.failed_calls[0]
            what = f"{counted(len(cells), 'cell')} left out, whose calls failed"
            yield f"{each.run.id}: {what}, first {first.id}: {first.error}"
    if timing_only:
        yield f"watts stay those of {parent.name}: they are not of this card"
    elif not clocked(runs):
        yield f"no run was capped or locked: how power depends on the clock stays that of {parent.name}"
    if not parent.calibrated:
        kind = "a card of its kind" if parent.tensor_parallel == 1 else f"{parent.tensor_parallel} GPUs together"
        yield f"{parent.name} was never fitted to {kind}: what a quick calibration leaves is not measured"
    elif OTHERS in parent.provenance:
        yield f"{parent.name} was fitted to {parent.provenance[OTHERS]}: what a quick calibration leaves is of those"
    names = dict.fromkeys(n for run in runs if run.conditions is not None for n in run.conditions.gpu_names)
    if other := [name for name in names if name != parent.gpu.name]:
        yield f"measured on {', '.join(other)}, and {parent.name} is of {parent.gpu.name}: take a base of that kind"
    measured = [run for run in runs if run.configuration.engine != "sim"]
    if any(run.conditions is None or not run.conditions.gpus for run in measured):
        yield "which card was measured is not known, so runs on it cannot be told from those on another"
    if any(run.conditions is not None and run.conditions.gpus and not run.conditions.host for run in measured):
        yield "which host was measured is not known: the runs are of before that was recorded"
