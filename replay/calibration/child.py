"""The profile that a quick calibration makes: its parent's, but for what one card and one host have of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import msgspec
from msgspec.structs import replace

from rejoule.replay.calibration.origin import check_measured, measured_on, on_their_gpus, serving
from rejoule.replay.calibration.quick import MEASURE, Fitted, GridRun, Seen, quick_fit
from rejoule.replay.sim.profile import Profile
from rejoule.traces import RejouleError
from rejoule.traces.run import Run


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
        before, after = self.fitted.before, self.fitted.after
        return {what: (count, size, _sizes(after)[what][1]) for what, (count, size) in _sizes(before).items()}

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
    parent: Profile, name: str, measured: Sequence[GridRun], *, timing_only: bool = False
) -> QuickCalibration:
    """A child of ``parent``, called ``name``, for the card and the host that the quick grid was ``measured`` on.

    Raises RejouleError for runs of other hardware, of modelled joules, or that show too little.
    """
    runs = [each.run for each in measured]
    parent = on_their_gpus(parent, runs)
    check_measured(parent, runs)
    modelled = [run.id for run in runs if run.energy.gpu_j is not None and not run.measured]
    if modelled and not timing_only:
        raise RejouleError(f"the joules of {modelled[0]} are modelled", f"{MEASURE}; or fit --timing-only")
    fitted = quick_fit(parent, measured, timing_only=timing_only)
    what = "Times of a host" if timing_only else "Watts of a card and times of a host"
    profile = replace(
        fitted.profile,
        name=name,
        source=f"{what}, from a quick calibration; all else is that of {parent.name}. {parent.source}",
        serving=serving(parent.serving, runs),
        sources={**parent.sources, **_sources(parent, fitted)},
        provenance={
            **measured_on(parent, runs, timing_only),
            "fitted by": "rejoule calibrate --quick",
            **{f"{what} MAPE": f"{size:.4f}" for what, (_, size) in _sizes(fitted.after).items()},
        },
        held_out={},
        # Known of the parent on other cards, not of what was fitted here.
        expected_error=None,
    )
    return QuickCalibration(profile, parent, fitted, tuple(_notes(parent, runs, fitted, timing_only)))


def _sizes(errors: Seen) -> dict[str, tuple[int, float]]:
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


def _notes(parent: Profile, runs: Sequence[Run], fitted: Fitted, timing_only: bool) -> Iterator[str]:
    if timing_only:
        yield f"watts stay those of {parent.name}: they are not of this card"
    elif not any(run.configuration.power_cap_w or run.configuration.sm_clock_mhz for run in runs):
        yield f"no run was capped or locked: how power depends on the clock stays that of {parent.name}"
    if not parent.calibrated:
        yield f"{parent.name} was never fitted to a card of its kind: what a quick calibration leaves is not measured"
    names = dict.fromkeys(n for run in runs if run.conditions is not None for n in run.conditions.gpu_names)
    if other := [name for name in names if name != parent.gpu.name]:
        yield f"measured on {', '.join(other)}, and {parent.name} is of {parent.gpu.name}: take a base of that kind"
    measured = [run for run in runs if run.configuration.engine != "sim"]
    if any(run.conditions is None or not run.conditions.gpus for run in measured):
        yield "which card was measured is not known, so runs on it cannot be told from those on another"
    if any(run.conditions is not None and run.conditions.gpus and not run.conditions.host for run in measured):
        yield "which host was measured is not known: the runs are of before that was recorded"
