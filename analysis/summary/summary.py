"""A run in one row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rejoule.analysis.attribution import Attribution, attribute, attribute_alike, method_of
from rejoule.analysis.summary.evidence import Evidence, evidence
from rejoule.traces.figures import Figures, figures
from rejoule.traces.percentiles import percentile
from rejoule.traces.run import CallResult, Run
from rejoule.traces.steady import Steady
from rejoule.traces.summary import first_tokens_s


@dataclass(frozen=True)
class Summary:
    """The figures of one run that tables and pictures share; ``None`` is what could not be measured."""

    run: Run
    attribution: Attribution | None
    evidence: Evidence
    gpu_j: float | None
    idle_j: float | None
    """Of the time without work, waiting for tools left out."""
    tool_wait_j: float | None
    power_w: float | None
    """Mean over the makespan."""
    makespan_s: float
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    token_j: float | None
    """Joules of the whole run for each output token."""
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    figures: Figures

    @property
    def steady(self) -> Steady | None:
        return self.evidence.steady


def summarise(run: Run, found: Attribution | None = None) -> Summary:
    """With its joules attributed like this, or by costs of its own."""
    found = found or attribute(run)
    gpu_j = run.energy.gpu_j
    answered = [call for call in run.calls if call.error is None]
    first = first_tokens_s(run)
    emitted = _total(answered, lambda call: call.output_tokens)
    return Summary(
        run=run,
        attribution=found,
        evidence=evidence(run),
        gpu_j=gpu_j,
        idle_j=run.energy.idle_j if found is None else found.idle_j - found.tool_wait_j,
        tool_wait_j=None if found is None else found.tool_wait_j,
        power_w=gpu_j / run.makespan_s if gpu_j is not None and run.makespan_s > 0.0 else None,
        makespan_s=run.makespan_s,
        prompt_tokens=_total(answered, lambda call: call.prompt_tokens),
        cached_tokens=_total(answered, lambda call: call.cached_tokens),
        output_tokens=emitted,
        token_j=gpu_j / emitted if gpu_j is not None and emitted else None,
        ttft_p50_s=percentile(first, 50),
        ttft_p99_s=percentile(first, 99),
        figures=figures(run),
    )


def trials(runs: Sequence[Run]) -> tuple[Summary, ...]:
    """Summaries of the trials of one configuration; where energy was read in bins, they share one fit of the costs."""
    read = [run for run in runs if run.energy.gpu_j is not None and method_of(run).endswith("readings")]
    alike = len(read) > 1 and len({method_of(run) for run in read}) == 1
    found = dict(zip(map(id, read), attribute_alike(read), strict=True)) if alike else {}
    return tuple(summarise(run, found.get(id(run))) for run in runs)


def _total(calls: Iterable[CallResult], count: Callable[[CallResult], int | None]) -> int | None:
    """The sum, unless some call did not say."""
    total = 0
    for call in calls:
        value = count(call)
        if value is None:
            return None
        total += value
    return total


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a run that two runs can be compared by."""

    name: str
    unit: str
    value: Callable[[Summary], float | None]
    more_is_better: bool = False
    recorded: bool = False
    """Taken over from what was recorded, so that it is exact and no configuration changes it."""


METRICS: Final = (
    Metric("GPU energy", "J", lambda s: s.gpu_j),
    Metric("GPU energy less idle power", "J", lambda s: s.evidence.net_j),
    Metric("GPU memory energy", "J", lambda s: s.evidence.hbm_j),
    Metric("CPU energy", "J", lambda s: s.evidence.cpu_j),
    Metric("DRAM energy", "J", lambda s: s.evidence.dram_j),
    Metric("energy per output token", "J", lambda s: s.token_j),
    Metric("average power", "W", lambda s: s.power_w),
    Metric("mean SM clock", "MHz", lambda s: s.evidence.sm_clock_mhz),
    Metric("steady energy per output token", "J", lambda s: None if s.steady is None else s.steady.j_per_token),
    Metric("steady power", "W", lambda s: None if s.steady is None else s.steady.power_w),
    Metric("makespan", "s", lambda s: s.makespan_s),
    Metric("workflow latency p50", "s", lambda s: s.figures.workflow_p50_s),
    Metric("workflow latency p99", "s", lambda s: s.figures.workflow_p99_s),
    Metric("time to first token p50", "s", lambda s: s.ttft_p50_s),
    Metric("time to first token p99", "s", lambda s: s.ttft_p99_s),
    Metric("prompt tokens", "tokens", lambda s: s.prompt_tokens),
    Metric("cached tokens", "tokens", lambda s: s.cached_tokens, more_is_better=True),
    Metric("output tokens", "tokens", lambda s: s.output_tokens),
)
