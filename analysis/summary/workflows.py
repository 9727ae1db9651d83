"""The figures of a run's workflows, as tables show them: `rejoule.traces.figures` says what each is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rejoule.analysis.statistics import Interval, mean
from rejoule.analysis.summary.summary import Metric, Summary
from rejoule.analysis.summary.units import amount
from rejoule.traces.percentiles import unresolved, unresolved_note
from rejoule.traces.summary import first_tokens_s

WORKFLOW_METRICS: Final = (
    Metric("workflow latency p95", "s", lambda s: s.figures.workflow_p95_s),
    Metric("energy per workflow", "J", lambda s: s.figures.workflow_j),
    Metric("energy per success", "J", lambda s: s.figures.success_j),
    Metric("workflows an hour a GPU", "/h", lambda s: s.figures.workflows_per_gpu_h, more_is_better=True),
    Metric("workflows an hour a user", "/h", lambda s: s.figures.workflows_per_user_h, more_is_better=True),
    Metric("slowdown by waiting", "×", lambda s: s.figures.slowdown),
    Metric("slowdown by waiting, most", "×", lambda s: s.figures.slowdown_most),
    Metric("Jain's index", "", lambda s: s.figures.jain, more_is_better=True),
    Metric("held time per workflow", "s", lambda s: s.figures.held_s),
    Metric("queue time per workflow", "s", lambda s: s.figures.queued_s),
)
"""What two runs are compared by besides ``METRICS``: a table, and a family of claims, of its own."""

SHOWN: Final = (
    Metric("workflow latency p50", "s", lambda s: s.figures.workflow_p50_s),
    WORKFLOW_METRICS[0],
    Metric("workflow latency p99", "s", lambda s: s.figures.workflow_p99_s),
    *WORKFLOW_METRICS[1:],
    Metric("cached share of prompts", "share", lambda s: s.figures.cached_share),
)
UNRESOLVED: Final = "*"
"""Stands behind a percentile that there are too few workflows for; a note beside it says so."""


@dataclass(frozen=True, slots=True)
class Told:
    """A figure of one configuration."""

    name: str
    unit: str
    value: float | None
    """Mean over the trials in which it is known."""
    interval: Interval | None
    """95 %, of the mean; ``None`` for one trial, or for equal ones."""
    trials: int
    """In which it is known."""
    resolved: bool = True
    """Whether a percentile is of enough workflows to be told from the longest."""

    @property
    def mean(self) -> str:
        """The value alone."""
        return amount(self.value, self.unit) + ("" if self.resolved or self.value is None else UNRESOLVED)

    @property
    def half_width(self) -> str:
        """Half of the interval; empty where there is none."""
        if self.interval is None:
            return ""
        half = (self.interval.high - self.interval.low) / 2.0
        return f"±{amount(half, self.unit)}"

    def __str__(self) -> str:
        return f"{self.mean} {self.half_width}".rstrip()


def told(trials: Sequence[Summary]) -> tuple[Told, ...]:
    """All figures of workflows, as means over the trials of one configuration."""
    few = {f"workflow latency p{p}" for s in trials for p in unresolved(s.figures.workflows)}
    return tuple(_told(metric, trials, metric.name not in few) for metric in SHOWN)


def figure_notes(trials: Iterable[Summary]) -> Iterable[str]:
    """What a reader of these figures must know, each said once."""
    return dict.fromkeys(note for s in trials for note in s.figures.notes)


def call_notes(trials: Iterable[Summary]) -> Iterable[str]:
    """The same of percentiles of calls."""
    counts = (len(first_tokens_s(s.run)) for s in trials)
    notes = (unresolved_note("time to first token", "call", count) for count in counts)
    return dict.fromkeys(note for note in notes if note is not None)


def _told(metric: Metric, trials: Sequence[Summary], resolved: bool) -> Told:
    known = [value for value in map(metric.value, trials) if value is not None]
    if not known:
        return Told(metric.name, metric.unit, None, None, 0, resolved)
    found = mean(known)
    return Told(metric.name, metric.unit, found.value, found.interval, found.count, resolved)
