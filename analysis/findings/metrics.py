"""The figures that findings speak of: those of ``rejoule diff``, and a few that say how full the engine was."""

from __future__ import annotations

from math import fsum
from typing import Final

from rejoule.analysis.summary.summary import METRICS, Metric, Summary
from rejoule.analysis.summary.workflows import WORKFLOW_METRICS
from rejoule.traces.run import Run

_SCOPES: Final = (("workload", METRICS), ("workflows", WORKFLOW_METRICS))


def _token_rate(run: Run) -> float | None:
    """Output tokens a second of a call, from its first token on: what one user sees, mean over calls."""
    rates = []
    for call in run.calls:
        tokens, first_s = call.output_tokens or 0, call.first_token_s
        if call.error is None and first_s is not None and tokens > 1 and call.end_s > first_s:
            rates.append((tokens - 1) / (call.end_s - first_s))
    return fsum(rates) / len(rates) if rates else None


def _sequences(run: Run) -> float | None:
    """Sequences that a decoding step serves, mean over steps."""
    steps = [(len(step.decode) * step.steps, step.steps) for step in run.steps or () if step.decode]
    count = sum(count for _, count in steps)
    return sum(served for served, _ in steps) / count if count else None


OWN: Final = (
    Metric("tokens a second a user", "/s", lambda s: _token_rate(s.run), more_is_better=True),
    Metric("output tokens a second", "/s", lambda s: _output_rate(s), more_is_better=True),
    Metric("sequences in a step", "", lambda s: _sequences(s.run), more_is_better=True),
    Metric("cached share of prompts", "share", lambda s: s.figures.cached_share, more_is_better=True),
)


def _output_rate(summary: Summary) -> float | None:
    tokens, seconds = summary.output_tokens, summary.makespan_s
    return None if tokens is None or seconds <= 0.0 else tokens / seconds


def metric_names() -> tuple[str, ...]:
    return tuple(metric.name for metrics in (METRICS, WORKFLOW_METRICS, OWN) for metric in metrics)


def metric_of(name: str) -> tuple[Metric, str]:
    """A metric by its name, and the scope under which the model's errors of it are known; KeyError if there is none."""
    for scope, metrics in (*_SCOPES, ("own", OWN)):
        for metric in metrics:
            if metric.name == name:
                return metric, scope
    raise KeyError(name)
