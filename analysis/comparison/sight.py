"""What so many trials can see of a change, and how many it would take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rejoule.analysis.summary.units import percent
from rejoule.traces.student import CHANCE, MOST_PAIRS, detectable, pairs_needed
from rejoule.traces.trials import ASKED, H200_SPREAD, LEAD_LEVEL, paired_spread

ASSUMED: Final = "kept runs of an H200"


@dataclass(frozen=True, slots=True)
class Sight:
    """Of one figure of one trace, for a verdict that counts the other rows of its table."""

    trace: str
    metric: str
    pairs: int
    spread: float
    """Standard deviation of the pairs' log ratios."""
    assumed: bool
    """The spread is not that of these trials, which show none, but that of kept runs of an H200."""
    detectable: float | None
    """The least increase that is found in 4 of 5 cases, relative; ``None`` for one pair, which finds none."""
    pairs_needed: Mapping[str, int | None]
    """Pairs that find a change of so much as often, by the change; ``None`` where even a thousand do not."""

    def __str__(self) -> str:
        asked = ", ".join(percent(float(change)).replace(".0", "") for change in self.pairs_needed)
        more = ", ".join(
            f"more than {MOST_PAIRS}" if pairs is None else str(max(0, pairs - self.pairs))
            for pairs in self.pairs_needed.values()
        )
        spread = f"pairs spread by {percent(self.spread)}" + (f", as {ASSUMED} do" if self.assumed else "")
        seen = "one pair shows no change" if self.pairs == 1 else f"{self.pairs} pairs"
        if self.detectable is not None:
            seen += f" find an increase of {percent(self.detectable)} in {round(CHANCE * 100)} of 100 cases"
        return f"{self.trace}: {self.metric}: {seen} ({spread}); to find {asked} as often takes {more} more"


def sight(trace: str, metric: str, pairs: int, spread: float | None) -> Sight:
    assumed = spread is None
    found = paired_spread(H200_SPREAD) if spread is None else spread
    return Sight(
        trace,
        metric,
        pairs,
        found,
        assumed,
        None if pairs < 2 else detectable(found, pairs, LEAD_LEVEL),
        {f"{change:g}": pairs_needed(change, found, LEAD_LEVEL) for change in ASKED},
    )
