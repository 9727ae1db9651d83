"""What equal runs differ by: the floor under every effect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import expm1, fsum, log, log1p, sqrt
from typing import Final

from rejoule.analysis.comparison.change import MARGIN, ROUNDING
from rejoule.analysis.statistics import CONFIDENCE
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.naming import describe, set_apart, turned
from rejoule.analysis.summary.summary import Summary
from rejoule.traces.run import configuration_key
from rejoule.traces.run_options import as_served
from rejoule.traces.student import t_cdf, t_quantile

SEED: Final = "seed"


@dataclass(frozen=True, slots=True)
class Values:
    """One figure over the cells of a design, as logarithms of means over trials."""

    logs: tuple[float | None, ...]
    """``None`` where it is not known, or not positive."""
    counts: tuple[int, ...]
    """Trials of each cell."""
    spread: float | None
    """Standard deviation of equal runs' logarithms, pooled over all cells; ``None`` where no two trials differ."""
    degrees: int
    """Of freedom, of ``spread``."""
    exact: bool
    """Equal runs are equal to the last digit: they are simulated."""

    def difference(self, a: int, b: int) -> float:
        """Of cell ``b`` against ``a``, both known, as a logarithm."""
        return (self.logs[b] or 0.0) - (self.logs[a] or 0.0)

    def known(self, *cells: int) -> bool:
        return all(self.logs[cell] is not None for cell in cells)

    def error(self, *cells: int) -> float | None:
        """Standard error of a sum or difference of these cells' logarithms."""
        if self.spread is None:
            return None
        return self.spread * sqrt(fsum(1.0 / self.counts[cell] for cell in cells))

    def differs(self, found: float, allowance: float | None, tests: int, *cells: int) -> bool | None:
        """Whether a difference of these cells is shown to be one, of so many that are tested (Bonferroni).

        ``allowance`` is what it may be off by that no trial shows, relative. ``None`` where no spread is known.
        """
        off = log1p(allowance or 0.0)
        if self.exact:
            return abs(found) > max(off, ROUNDING)
        error = self.error(*cells)
        if error is None:
            return None
        return 2.0 * t_cdf((off - abs(found)) / error, self.degrees) < (1.0 - CONFIDENCE) / tests

    def within_margin(self, found: float, *cells: int) -> bool | None:
        """Whether a difference is shown to be smaller than ``MARGIN`` in either direction (two one-sided tests).

        Of what is modelled, by itself: a model's error would leave room for nothing.
        """
        low, high = log(1.0 - MARGIN), log(1.0 + MARGIN)
        if self.exact:
            return low <= found <= high
        error = self.error(*cells)
        if error is None:
            return None
        room = min(found - low, high - found)
        return t_cdf(-room / error, self.degrees) < 1.0 - CONFIDENCE

    @property
    def half_width(self) -> float | None:
        """95 %, relative, of the difference between two cells of as many trials as most have."""
        if self.spread is None:
            return None
        usual = sorted(self.counts)[len(self.counts) // 2]
        return expm1(t_quantile(0.5 + CONFIDENCE / 2.0, self.degrees) * self.spread * sqrt(2.0 / usual))


def repeated(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Those that differ in the seed alone, as one: a seed is a draw of the same, and nothing that anybody sets."""
    names = turned(cell.configuration for cell in cells)
    if SEED not in names:
        return tuple(cells)
    groups = defaultdict[str, list[Cell]](list)
    for cell in cells:
        groups[configuration_key(replace(as_served(cell.configuration), seed=0))].append(cell)
    told = [name for name in names if name != SEED]
    return tuple(
        replace(
            group[0],
            label=describe(group[0].configuration, [*told, *set_apart(group[0].configuration)]),
            trials=tuple(trial for cell in group for trial in cell.trials),
            warmer=tuple(run for cell in group for run in cell.warmer),
        )
        for group in groups.values()
    )


def values(cells: Sequence[Cell], figure: Callable[[Summary], float | None], simulated: bool) -> Values:
    """A figure of every cell; simulated trials are equal unless their work is drawn anew in each."""
    logs: list[float | None] = []
    squares, degrees = 0.0, 0
    for cell in cells:
        known = [v for v in map(figure, cell.trials) if v is not None]
        if not known or len(known) < len(cell.trials) or min(known) <= 0.0:
            logs.append(None)
            continue
        mine = [log(v) for v in known]
        centre = fsum(mine) / len(mine)
        logs.append(centre)
        own = fsum((v - centre) ** 2 for v in mine)
        # Beside simulated trials that are drawn anew, those that are equal by construction say nothing of the others.
        if not (simulated and own <= ROUNDING**2):
            squares += own
            degrees += len(mine) - 1
    spread = sqrt(squares / degrees) if degrees and squares > ROUNDING**2 else None
    return Values(tuple(logs), tuple(len(c.trials) for c in cells), spread, degrees, simulated and spread is None)
