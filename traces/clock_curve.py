"""What a reader must know of modelled figures under power caps and clock locks: whether the curve of power over the
clock was assumed or measured, what it may be off by, and whether another card of the model would be bound at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from rejoule.traces.run import Run
from rejoule.traces.words import in_percent

CARDS_DIFFER: Final = 0.161
"""The most by which joules of the same work differed on three H200s (``python -m benchmarks.differences``): a cap so
near to what a step draws uncapped may bind on one card and not on another."""
MARKS: Final = "±: clock curve assumed, joules may be off by so much"
SELDOM: Final = 0.05
"""A share of the time below which steps that come near to a cap are not spoken of."""
JOULES: Final = "GPU energy"
BY: Final = {"power_cap_w": ("caps", "known_from_w", "W"), "sm_clock_mhz": ("clocks", "known_from_mhz", "MHz")}
"""By knob: where a profile's clock curve has its widths, from where on nothing is assumed, and the knob's unit."""


def assumed(run: Run) -> tuple[str, ...]:
    """The knobs of a modelled run whose effect hangs on a clock curve that was not measured there.

    A cap that never bound has none.
    """
    if run.configuration.engine != "sim":
        return ()
    curve = run.engine.get("clock_curve") or {}
    free = run.power_cap.bound_fraction == 0.0
    set_to = {"power_cap_w": None if free else run.configuration.power_cap_w}
    set_to["sm_clock_mhz"] = run.configuration.sm_clock_mhz
    return tuple(
        knob for knob, at in set_to.items() if at is not None and not (curve and at >= curve.get(BY[knob][1], at))
    )


def width(run: Run, figure: str = JOULES) -> float | None:
    """What an assumed clock curve may put a figure off by, relative, against the same without cap and lock; 0 where
    nothing is assumed, ``None`` where that is not known."""
    curve = run.engine.get("clock_curve") or {}
    found = [_width(curve, knob, float(getattr(run.configuration, knob)), figure) for knob in assumed(run)]
    known = [each for each in found if each is not None]
    return sum(known) if len(known) == len(found) else None


def told_widths(run: Run) -> Iterator[str]:
    """Figures whose widths a modelled run's clock curve tells."""
    curve = run.engine.get("clock_curve") or {}
    for table, _, _ in BY.values():
        for point in curve.get(table, ()):
            yield from point["metrics"]


def mark(run: Run) -> str:
    """The width of a run's joules in a few letters; nothing where nothing is assumed."""
    return f"±{_percent(width(run))}" if assumed(run) else ""


def marks_note(runs: Iterable[Run]) -> str:
    """What the letters of ``mark`` mean, where any of these runs has them."""
    return MARKS if any(map(assumed, runs)) else ""


def may_bind(run: Run) -> bool:
    """Whether another card of the model may be bound by a cap that did not bind here, by what its steps draw."""
    return run.power_cap.bound_fraction == 0.0 and _near(run)


def curve_notes(runs: Iterable[Run]) -> Iterator[str]:
    """What these runs' caps and locks are worth, each said once."""
    runs = tuple(runs)
    for profile in dict.fromkeys(str(run.engine.get("profile", "")) for run in runs):
        yield from _notes(profile, [run for run in runs if str(run.engine.get("profile", "")) == profile])


def as_json(run: Run) -> dict[str, Any] | None:
    """The same of one run, for machines; ``None`` without a cap or lock, or where it was measured."""
    knobs = assumed(run)
    if not knobs and not _near(run):
        return None
    return {
        "assumed": list(knobs),
        "joules_width": width(run) if knobs else None,
        "near_cap_share": run.engine.get("near_cap"),
        "may_bind": may_bind(run),
        "notes": list(curve_notes([run])),
    }


def _notes(profile: str, runs: Sequence[Run]) -> Iterator[str]:
    sizes: dict[str, str] = {}
    silent = False
    for run in runs:
        for knob in assumed(run):
            curve, at = run.engine.get("clock_curve") or {}, float(getattr(run.configuration, knob))
            silent |= not curve
            sizes[f"{at:g} {BY[knob][2]}"] = _percent(_width(curve, knob, at, JOULES))
    if sizes:
        told = ", ".join(f"±{size} at {at}" for at, size in sizes.items())
        why = "these runs do not say how it was found" if silent else "the spread that public measurements leave"
        yield (
            f"clock curve assumed ({profile}): joules {told}, beside the profile's own error ({why}); "
            "rejoule calibrate --power-cap on your GPU measures it"
        )
    near = sorted({run.configuration.power_cap_w or 0.0 for run in runs if _near(run)})
    if near:
        told = " or ".join(f"{cap:g} W" for cap in near)
        yield (
            f"whether a cap of {told} binds is the card's: steps draw within {_percent(CARDS_DIFFER)} of it for "
            f"{_percent(SELDOM)} of the time or more, and cards of one model differ by so much"
        )


def _near(run: Run) -> bool:
    return (run.engine.get("near_cap") or 0.0) >= SELDOM


def _width(curve: Mapping[str, Any], knob: str, at: float, figure: str) -> float | None:
    """Between the values of a table, and from the last to none where the curve is known."""
    table, known, _ = BY[knob]
    points = [(w["at"], w["metrics"][figure]) for w in curve.get(table, ()) if figure in w["metrics"]]
    if not points or at < points[0][0]:
        return None
    points.append((max(float(curve[known]), points[-1][0]), 0.0))
    for (low, a), (high, b) in pairwise(points):
        if at <= high:
            return float(a if high == low else a + (b - a) * (at - low) / (high - low))
    return 0.0


def _percent(share: float | None) -> str:
    return " not known" if share is None else in_percent(share)
