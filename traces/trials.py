"""How trials of one configuration differ, as far as it is known before or after they are made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum, log, sqrt
from typing import Final

from rejoule.traces.run import Run, configuration_key

LEAD_LEVEL: Final = 0.025
"""At which joules are tested: half of the 5 % that a table of a diff may be wrong by is kept for them."""
ASKED: Final = (0.01, 0.02, 0.05)
"""Changes for which the trials that find them are told."""
H200_SPREAD: Final = 0.0131
"""Standard deviation of the log joules of equal runs of the four workloads on two H200s, pooled over 28 configurations
with three trials each (``python -m benchmarks.differences``)."""


def trial_spread(runs: Iterable[Run]) -> tuple[float, int] | None:
    """The standard deviation of log joules between measured trials of one configuration, pooled, and its degrees of
    freedom; ``None`` where no configuration has two."""
    groups: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        if run.measured and run.energy.gpu_j and not (run.conditions is not None and run.conditions.rejected):
            groups.setdefault((run.trace, configuration_key(run.configuration)), []).append(log(run.energy.gpu_j))
    known = [values for values in groups.values() if len(values) > 1]
    degrees = sum(len(values) - 1 for values in known)
    return (sqrt(fsum(map(_squares, known)) / degrees), degrees) if degrees else None


def paired_spread(spread: float) -> float:
    """Of the differences of two trials that share nothing, which spread so much each."""
    return sqrt(2.0) * spread


def _squares(values: Sequence[float]) -> float:
    centre = fsum(values) / len(values)
    return fsum((v - centre) ** 2 for v in values)
