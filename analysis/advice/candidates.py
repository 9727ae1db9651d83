"""Configurations that may be advised, each with what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, prod
from typing import Any, Final, Literal

from rejoule.analysis.advice.known import Estimate, Known, Verdict, estimate, kept
from rejoule.analysis.advice.matrix import Key, Matrix, Twin, configured, is_measured
from rejoule.analysis.advice.objective import Objective
from rejoule.analysis.advice.success import Success
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.naming import describe
from rejoule.analysis.summary.summary import Summary
from rejoule.traces.run import Configuration

DIGITS: Final = 12
"""Of a share: what its logarithm lost is not shown."""
Kind = Literal["measured", "modelled", "inferred", "predicted"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration."""

    label: str
    settings: Mapping[str, Any]
    """The knobs that vary, by their names."""
    kind: Kind
    """Measured joules, a simulated engine's, those of a run that would have been the same, or a guess from others."""
    trials: int
    joules: Estimate | None
    """A workflow's."""
    success_joules: Estimate | None
    """By the workflows that succeeded: ``inf`` where none did; ``None`` if that is not known of all of them."""
    succeeded: float | None
    """The share of workflows that did, as recorded."""
    figures: Mapping[str, Estimate | None]
    """Those that objectives are about."""
    verdict: Verdict
    chance: float | None
    """That all objectives are kept, their errors taken for independent; ``None`` if some error is not known."""
    power_w: float | None
    workflows_per_gpu_h: float | None
    agents_per_mw: float | None
    """Workflows under way on average (their times added up, by the makespan), by the GPUs' mean power, a megawatt."""
    same_as: str | None = None
    """Of what is inferred: the configuration whose run would have been the same, and why."""

    @property
    def ran(self) -> bool:
        return self.kind in ("measured", "modelled")


def candidate(
    plan: Matrix,
    key: Key,
    joules: Known,
    success: Success,
    of: Sequence[tuple[Objective, Known]],
    like: Configuration,
) -> Candidate:
    """``like`` has the knobs that do not vary."""
    place = plan.place(key)
    found = [(objective, held.at(key, place)) for objective, held in of]
    told = [kept(objective, guess) for objective, guess in found]
    verdicts = [verdict for verdict, _ in told]
    verdict: Verdict = next((v for v in _WORST if v in verdicts), "keeps")
    chances = [chance for _, chance in told]
    twin = plan.twins.get(key)
    cell = plan.cells.get(key if twin is None else twin.key)
    return Candidate(
        label=_label(plan, key, like),
        settings=dict(zip(plan.names, key, strict=True)),
        kind=_kind(cell, twin),
        trials=0 if cell is None or twin is not None else len(cell.trials),
        joules=estimate(joules.at(key, place)),
        success_joules=estimate(success.joules.at(key, place)),
        succeeded=None if (share := success.share.at(key, place)) is None else round(exp(share.log), DIGITS),
        figures={objective.name: estimate(guess) for objective, guess in found},
        verdict=verdict,
        chance=None if None in chances else prod(chance for chance in chances if chance is not None),
        power_w=_mean(cell, lambda s: s.power_w),
        workflows_per_gpu_h=_mean(cell, lambda s: s.figures.workflows_per_gpu_h),
        agents_per_mw=_mean(cell, _agents_per_mw),
        same_as=None if twin is None else f"{_label(plan, twin.key, like)}: {'; '.join(twin.why)}",
    )


def _kind(cell: Cell | None, twin: Twin | None) -> Kind:
    if cell is None:
        return "predicted"
    if twin is not None:
        return "inferred"
    return "measured" if is_measured(cell) else "modelled"


_WORST: Final[tuple[Verdict, ...]] = ("misses", "not known", "may miss")


def _label(plan: Matrix, key: Key, like: Configuration) -> str:
    return describe(configured(like, dict(zip(plan.names, key, strict=True))), plan.names) or "as it was run"


def _mean(cell: Cell | None, value: Callable[[Summary], float | None]) -> float | None:
    found = None if cell is None else cell.mean(value)
    return None if found is None else found.value


def _agents_per_mw(s: Summary) -> float | None:
    if s.power_w is None or s.figures.workflow_mean_s is None or s.makespan_s <= 0.0:
        return None
    return s.figures.workflows * s.figures.workflow_mean_s / s.makespan_s / s.power_w * 1e6
