"""What one knob does to one figure, from cells that differ in that knob alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import expm1, fsum
from typing import Literal

from rejoule.analysis.comparison.change import MARGIN
from rejoule.analysis.sensitivity.design import Design
from rejoule.analysis.sensitivity.noise import Values

Verdict = Literal["moves", "inert", "cannot tell", "not separable"]


@dataclass(frozen=True, slots=True)
class Effect:
    """Of a knob on a figure, between the two of its levels that are farthest apart."""

    knob: str
    label: str
    figure: str
    start: str
    """The one level, in words."""
    end: str
    change: float | None
    """From ``start`` to ``end``, the geometric mean over settings of the other knobs; ``None`` if no two cells tell."""
    least: float | None
    """The change at the setting where it is lowest."""
    most: float | None
    settings: int
    """Of the other knobs, at which both levels were run."""
    allowance: float | None
    """Relative: what changes between modelled runs may be off by, the greatest of those that were compared; ``None`` if
    that is not known of all, or measured."""
    allowance_least: float | None
    """The least of them: under other caps a change may be known better."""
    share: float | None
    """Of the figure's variance over all cells (``shares``); ``None`` where not all combinations were run."""
    verdict: Verdict
    """``moves``: shown at some setting; ``inert``: within ±2 % between any two levels at every setting, shown."""
    reason: str | None = None
    """Why it is not separable, or cannot be told."""


def effect(
    design: Design,
    values: Values,
    knob: int,
    figure: str,
    share: float | None,
    allowances: Mapping[tuple[int, int], float | None],
) -> Effect:
    """``allowances`` has what the change between two cells that differ in this knob alone may be off by."""
    held = design.knobs[knob]
    known = [error for error in allowances.values() if error is not None]
    told = bool(known) and len(known) == len(allowances)
    allowance, allowance_least = (max(known), min(known)) if told else (None, None)
    compared = [(a, b, i, j) for a, b, i, j in design.pairs(knob) if values.known(i, j)]
    if not compared:
        return Effect(
            knob=held.name,
            label=held.label,
            figure=figure,
            start=held.levels[0],
            end=held.levels[-1],
            change=None,
            least=None,
            most=None,
            settings=0,
            allowance=allowance,
            allowance_least=allowance_least,
            share=share,
            verdict="not separable",
            reason=_tied(design, knob),
        )
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for a, b, i, j in compared:
        found[a, b].append(values.difference(i, j))
    start, end = max(found, key=lambda levels: abs(_mean(found[levels])))
    logs = found[start, end]
    differences = [(values.difference(i, j), allowances[i, j], i, j) for _, _, i, j in compared]
    verdict, reason = _verdict(values, differences)
    return Effect(
        held.name,
        held.label,
        figure,
        start,
        end,
        expm1(_mean(logs)),
        expm1(min(logs)),
        expm1(max(logs)),
        len(logs),
        allowance,
        allowance_least,
        share,
        verdict,
        reason,
    )


def between(design: Design, values: Values, knob: int, start: str, end: str) -> float | None:
    """The change of another figure between the same two levels."""
    logs = [
        values.difference(i, j) for a, b, i, j in design.pairs(knob) if (a, b) == (start, end) and values.known(i, j)
    ]
    return expm1(_mean(logs)) if logs else None


def _tied(design: Design, knob: int) -> str:
    together = design.tied(knob)
    return f"it always changed with {', '.join(together)}" if together else "no two configurations differ in it alone"


def _verdict(values: Values, compared: list[tuple[float, float | None, int, int]]) -> tuple[Verdict, str | None]:
    moved = [values.differs(d, off, len(compared), i, j) for d, off, i, j in compared]
    if None in moved:
        return "cannot tell", "no configuration was run twice, so nothing is known of what equal runs differ by"
    # All comparisons must be within the margin, so none of them needs a correction (Berger, Technometrics 24, 1982).
    if all(values.within_margin(d, i, j) for d, _, i, j in compared):
        return "inert", None
    if any(moved):
        return "moves", None
    return "cannot tell", f"no change is shown, and none of {100 * MARGIN:.0f} % or more is ruled out"


def _mean(logs: list[float]) -> float:
    return fsum(logs) / len(logs)
