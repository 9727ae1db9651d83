"""Prints what engine options do to time and joules: python -m benchmarks.gpu.options [FOLDER].

The tables of docs/h200.md, from the runs of options.sh that are kept in benchmarks/h200/options.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Final

from benchmarks.gpu.sensors import row
from benchmarks.gpu.tables import DATA, spread

from rejoule.analysis.diff import compare
from rejoule.analysis.pairing import pair
from rejoule.traces.percentiles import percentile
from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs
from rejoule.traces.summary import latencies_s

TURNED: Final[Mapping[str, str]] = {
    "": "defaults",
    "enable_prefix_caching=False": "no prefix caching",
    "enforce_eager=True": "no CUDA graphs",
    "async_scheduling=False": "no asynchronous scheduling",
    "max_num_batched_tokens=2048": "budget of 2,048 tokens",
    "max_num_batched_tokens=16384": "budget of 16,384 tokens",
    "max_num_batched_tokens=16384, enable_chunked_prefill=False": "the same, no chunked prefill",
}
"""Options by what they are called, in the order of the table."""
OPTIONS: Final = (
    "max_num_batched_tokens", "enable_prefix_caching", "enforce_eager", "async_scheduling", "enable_chunked_prefill",
)  # fmt: skip


def turned(run: Run) -> str:
    """The option of a run that is not as it is by default."""
    given = run.configuration.options
    return ", ".join(f"{name}={given[name]}" for name in OPTIONS if name in given)


def table(runs: Iterable[Run]) -> Iterable[str]:
    """For each workload and option: joules, time, and the change of both against the defaults, by pairs of trials."""
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.trace, turned(run)].append(run)
    against = "against the defaults"
    yield row("workload", "option", "trials", "exact calls", "energy, J", against, "workflow p50, s", against)
    yield row("---", "---", "--:", "--:", "--:", "--:", "--:", "--:")
    for trace in dict.fromkeys(trace for trace, _ in groups):
        plain = groups[trace, ""]
        for option, name in TURNED.items():
            if mine := groups.get((trace, option)):
                yield row(trace, name, len(mine), *_exact(mine), *_figures(plain, mine))


def _exact(runs: Sequence[Run]) -> Sequence[str]:
    exact, calls = (sum(v) for v in zip(*((r.certificate.exact_calls, len(r.calls)) for r in runs), strict=True))
    return [f"{exact} of {calls}"]


def _figures(plain: Sequence[Run], mine: Sequence[Run]) -> Sequence[str]:
    joules = spread([run.energy.gpu_j or 0.0 for run in mine], ".0f")
    times = f"{mean(percentile(latencies_s(run)['workflow'], 50) or 0.0 for run in mine):.2f}"
    if plain is mine:
        return [joules, "", times, ""]
    found = {r.name: r for r in compare(pair(plain, mine), allow_rejected=True).of("workload")}
    changes = []
    for name in ("GPU energy", "workflow latency p50"):
        change = found[name]
        width = "" if change.interval is None else f" ({change.interval.low:+.1%} to {change.interval.high:+.1%})"
        changes.append(f"{change.change:+.1%}{width}" if change.change is not None else "–")
    return [joules, changes[0], times, changes[1]]


if __name__ == "__main__":
    folder = load_runs(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "options")
    print("\n".join(table(folder.runs)))
