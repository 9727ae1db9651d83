"""Short words for figures, as options name them: ``joules``, ``workflow.p99``, ``ttft.p50``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from rejoule.analysis.summary.summary import METRICS, Metric, Summary
from rejoule.analysis.summary.workflows import WORKFLOW_METRICS
from rejoule.traces.errors import RejouleError
from rejoule.traces.percentiles import percentile
from rejoule.traces.success import success_share
from rejoule.traces.summary import latencies_s

WORDS: Final[Mapping[str, str]] = {
    "joules": "GPU energy",
    "joules.net": "GPU energy less idle power",
    "joules.memory": "GPU memory energy",
    "joules.cpu": "CPU energy",
    "joules.dram": "DRAM energy",
    "joules.token": "energy per output token",
    "joules.workflow": "energy per workflow",
    "joules.success": "energy per success",
    "success": "workflows that succeeded",
    "power": "average power",
    "clock": "mean SM clock",
    "makespan": "makespan",
    "workflow.p50": "workflow latency p50",
    "workflow.p95": "workflow latency p95",
    "workflow.p99": "workflow latency p99",
    "ttft.p50": "time to first token p50",
    "ttft.p95": "time to first token p95",
    "ttft.p99": "time to first token p99",
    "itl.p50": "time between tokens p50",
    "itl.p95": "time between tokens p95",
    "itl.p99": "time between tokens p99",
    "workflows.gpu": "workflows an hour a GPU",
    "workflows.user": "workflows an hour a user",
    "slowdown": "slowdown by waiting",
    "jain": "Jain's index",
    "held": "held time per workflow",
    "queued": "queue time per workflow",
}
"""What tables call each of them."""


def _of_calls(kind: str, part: float) -> Callable[[Summary], float | None]:
    return lambda s: percentile(latencies_s(s.run)[kind], part)


MORE: Final = (
    Metric("time to first token p95", "s", _of_calls("ttft", 95)),
    *(Metric(f"time between tokens p{part}", "s", _of_calls("itl", part)) for part in (50, 95, 99)),
    Metric("workflows that succeeded", "share", lambda s: success_share(s.run), more_is_better=True, recorded=True),
)
"""Figures that no table of a diff has, but an objective may be about. Time between tokens is a call's mean."""
BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in (*METRICS, *WORKFLOW_METRICS, *MORE)}


def metric_named(word: str) -> Metric:
    """The figure that is called so, by a short word or as tables call it. Raises RejouleError."""
    name = WORDS.get(word, word)
    if name not in BY_NAME:
        raise RejouleError(f"no figure is called '{word}'", f"choose among {', '.join(WORDS)}")
    return BY_NAME[name]
