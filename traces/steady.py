"""Figures of the time in which an engine's batch was full: a run without its filling up and running dry.

Of *N* calls and a batch of *B*, it lasts from the *B*-th first token until *N - B - 1* calls have ended, as in the
ML.ENERGY benchmark (arXiv 2505.06371). Graphs of calls that wait for each other often never get there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rejoule.traces.loops import pass_of
from rejoule.traces.run import CallResult, Run

Stretch = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Steady:
    """What an engine did with a full batch."""

    batch: int
    stretches: tuple[Stretch, ...]
    """Seconds from the start of the run, one stretch for each pass over the trace that got there."""
    output_tokens: float
    """Those of a call that is only partly inside are spread evenly from its first token to its end."""
    energy_j: float | None
    """Of all GPUs; ``None`` where only the run's total is known."""

    @property
    def duration_s(self) -> float:
        return sum(end - start for start, end in self.stretches)

    @property
    def tokens_per_s(self) -> float:
        return self.output_tokens / self.duration_s

    @property
    def power_w(self) -> float | None:
        return None if self.energy_j is None else self.energy_j / self.duration_s

    @property
    def j_per_token(self) -> float | None:
        return None if self.energy_j is None or not self.output_tokens else self.energy_j / self.output_tokens


def steady(run: Run, batch: int | None = None) -> Steady | None:
    """The steady figures of a run; ``None`` if its batch was never full for any time, or times are not known.

    ``batch`` is by default the engine's largest, or as many calls as were in flight at most, if that is less.
    """
    passes: dict[int, list[CallResult]] = defaultdict(list)
    for call in run.calls:
        if call.error is None:
            passes[pass_of(call.id)].append(call)
    size = batch or _batch(run)
    found = [_stretch(calls, size) for _, calls in sorted(passes.items())]
    stretches = tuple(stretch for stretch in found if stretch is not None)
    if not stretches:
        return None
    tokens = 0.0
    for call in run.calls:
        if call.first_token_s is not None and call.output_tokens is not None and call.error is None:
            tokens += call.output_tokens * _share(call.first_token_s, call.end_s, stretches)
    return Steady(size, stretches, tokens, _energy_j(run, stretches))


def _batch(run: Run) -> int:
    largest = run.configuration.max_num_seqs or run.engine.get("max_num_seqs")
    changes = sorted([*((c.sent_s, 1) for c in run.calls), *((c.end_s, -1) for c in run.calls)])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return max(1, min(most, int(largest)) if largest else most)


def _stretch(calls: Sequence[CallResult], batch: int) -> Stretch | None:
    starts = sorted(c.first_token_s for c in calls if c.first_token_s is not None)
    ends = sorted(c.end_s for c in calls)
    if len(starts) < len(calls) or len(calls) < 2 * batch + 1:
        return None
    # Once so many calls have ended, the last ones no longer fill the batch.
    start_s, end_s = starts[batch - 1], ends[len(calls) - batch - 2]
    return (start_s, end_s) if end_s > start_s else None


def _energy_j(run: Run, stretches: Iterable[Stretch]) -> float | None:
    parts = [(r.start_s, r.end_s, r.energy_j) for r in run.readings or ()]
    if not parts:
        steps = [(s.start_s, s.end_s, s.energy_j) for s in run.steps or ()]
        parts = [(start_s, end_s, joules) for start_s, end_s, joules in steps if joules is not None]
        if not parts or len(parts) < len(steps):
            return None
    within = list(stretches)
    return sum(joules * _share(start_s, end_s, within) for start_s, end_s, joules in parts)


def _share(start_s: float, end_s: float, stretches: Iterable[Stretch]) -> float:
    """The share of a time that lies in stretches; an instant lies in one or not."""
    if end_s <= start_s:
        return float(any(a <= start_s <= b for a, b in stretches))
    return sum(max(0.0, min(end_s, b) - max(start_s, a)) for a, b in stretches) / (end_s - start_s)
