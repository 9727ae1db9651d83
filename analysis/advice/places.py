"""Where the values of a knob lie, so that a figure changes evenly along it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, log
from typing import Any, Final

from rejoule.analysis.advice.reach import CAP, SEATS, longer, most_under_way, pressed
from rejoule.analysis.advice.surface import Place
from rejoule.traces.run import Run

JOULES_BY_TIME: Final = 0.8
"""What joules grow by where a lack of seats makes a run longer, both as logarithms: about so in simulated matrices of
the four kept workloads."""


def along(knob: str, levels: Sequence[Any], run: Run | None) -> Mapping[Any, Place]:
    """Of each value; ``run`` is one with the knob at its loosest, if there is one.

    Batch sizes and power caps lie by what that run says of them: a batch size by how much longer it would have taken,
    and apart from that by how far it is beyond all calls that were ever under way; a cap by how far it drew more.
    Other numbers lie by their logarithms, or by their ranks where some are not positive; words have no order.
    """
    if not ordered(levels):
        return {value: (str(value),) for value in levels}
    even = _even(levels)
    if run is not None and knob == SEATS:
        most = most_under_way(run)
        filled = min((even[v] for v in levels if v is None or v >= most), default=inf)
        return {v: (log(longer(run, inf if v is None else v)), max(0.0, even[v] - filled)) for v in levels}
    if run is not None and knob == CAP:
        found = {v: 0.0 if v is None else pressed(run, v) for v in levels}
        told = {v: (by,) for v, by in found.items() if by is not None}
        return told if len(told) == len(levels) else {v: (even[v],) for v in levels}
    return {v: (even[v],) for v in levels}


def ordered(levels: Sequence[Any]) -> bool:
    return all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in levels)


def _even(levels: Sequence[Any]) -> dict[Any, float]:
    """From 0 to 1; the engine's own, ``None``, is as far beyond the last as others are from each other."""
    numbers = [v for v in levels if v is not None]
    spots = [log(v) for v in numbers] if min(numbers, default=0) > 0 else [float(i) for i in range(len(numbers))]
    if len(numbers) < len(levels):
        spots.append(spots[-1] + (spots[-1] - spots[0]) / (len(spots) - 1) if len(spots) > 1 else 1.0 + sum(spots))
    whole = spots[-1] - spots[0] or 1.0
    return {v: (spot - spots[0]) / whole for v, spot in zip(levels, spots, strict=True)}
