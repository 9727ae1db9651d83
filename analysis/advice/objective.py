"""What must be kept: ``workflow.p99=20s``, ``power=400W``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log
from typing import Final

from rejoule.analysis.comparison.change import ROUNDING
from rejoule.analysis.summary.summary import Metric
from rejoule.analysis.summary.units import amount
from rejoule.analysis.summary.words import metric_named
from rejoule.traces.errors import RejouleError

REMEDY: Final = "write FIGURE=BOUND, as in workflow.p99=20s, ttft.p50=500ms, power=400W or success=90%"
_FORM: Final = re.compile(
    r"\s*(?P<figure>.+?)\s*(?P<sign><=|≤|>=|≥|=)\s*(?P<bound>[0-9.]+(?:e[-+]?\d+)?)\s*(?P<unit>\S*)\s*"
)
_SCALES: Final[Mapping[str, tuple[str, float]]] = {
    "": ("", 1.0), "s": ("s", 1.0), "ms": ("s", 1e-3), "min": ("s", 60.0),
    "J": ("J", 1.0), "kJ": ("J", 1e3), "W": ("W", 1.0), "kW": ("W", 1e3), "/h": ("/h", 1.0),
    "%": ("share", 1e-2),
}  # fmt: skip
SHARE: Final = "share"


@dataclass(frozen=True, slots=True)
class Objective:
    """A bound on one figure of a configuration: at most so much, or, of figures of which more is better, at least."""

    text: str
    metric: Metric
    bound: float
    """In the metric's unit."""

    @property
    def name(self) -> str:
        return self.metric.name

    @property
    def sign(self) -> int:
        """1 where less is better, −1 where more is."""
        return -1 if self.metric.more_is_better else 1

    def room(self, figure_log: float) -> float:
        """How far a figure's logarithm is on the right side of the bound's; below 0 it is not. Rounding is forgiven."""
        return (log(self.bound) - figure_log) * self.sign + ROUNDING

    def __str__(self) -> str:
        return f"{self.name} {'≥' if self.metric.more_is_better else '≤'} {amount(self.bound, self.metric.unit)}"


def objectives(texts: Sequence[str]) -> tuple[Objective, ...]:
    """Raises RejouleError for what is none, and for two of one figure."""
    found = tuple(map(_objective, texts))
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RejouleError(f"{twice} has two bounds", "leave one of them out")
    return found


def _objective(text: str) -> Objective:
    found = _FORM.fullmatch(text)
    if found is None:
        raise RejouleError(f"'{text}' is no objective", REMEDY)
    metric = metric_named(found["figure"])
    if found["sign"] in (("<=", "≤") if metric.more_is_better else (">=", "≥")):
        side = "at least" if metric.more_is_better else "at most"
        raise RejouleError(f"'{text}': {metric.name} has a bound on the other side", f"ask for {side} so much, with =")
    try:
        number = float(found["bound"])
    except ValueError:
        number = float("nan")
    base, factor = _SCALES.get(found["unit"], (found["unit"], 1.0))
    if not isfinite(number) or number <= 0.0:
        raise RejouleError(f"'{text}' has no bound above 0", REMEDY)
    if base not in ("", metric.unit):
        raise RejouleError(f"'{text}': {metric.name} has no unit '{base}'", f"give the bound in {metric.unit or '1'}")
    if metric.unit == SHARE and number * factor > 1.0 + ROUNDING:
        raise RejouleError(f"'{text}' is more than all", "give a share, as in success=0.9 or success=90%")
    return Objective(text, metric, number * factor)
