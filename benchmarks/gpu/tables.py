"""Prints the tables of docs/h200.md from the data in benchmarks/h200: python -m benchmarks.gpu.tables [FOLDER]."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, median, stdev

import orjson

from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs
from rejoule.traces.summary import latencies_s, percentile

DATA = Path(__file__).parents[1] / "h200"


def row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def spread(values: list[float], form: str) -> str:
    return f"{mean(values):{form}} ± {stdev(values):{form}}"


def workloads(runs: Iterable[Run]) -> Iterable[str]:
    """One row for each workload and batch size: exactness, energy, power and latency over its trials."""
    groups: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.trace, run.configuration.max_num_seqs or 0].append(run)
    yield row(["workload", "batch size", "exact calls", "energy, J", "J a workflow", "mean W", "workflow p50, s"])
    yield row(["---", "--:", "--:", "--:", "--:", "--:", "--:"])
    for (trace, size), group in sorted(groups.items()):
        joules = [run.energy.gpu_j or 0.0 for run in group]
        exact, calls = (sum(v) for v in zip(*((r.certificate.exact_calls, len(r.calls)) for r in group), strict=True))
        yield row(
            [
                trace,
                size,
                f"{exact} of {calls}",
                spread(joules, ".0f"),
                f"{mean(joules) / len(group[0].workflows):.0f}",
                f"{mean(j / r.makespan_s for j, r in zip(joules, group, strict=True)):.0f}",
                f"{mean(percentile(latencies_s(r)['workflow'], 50) or 0.0 for r in group):.2f}",
            ]
        )


def overhead(path: Path) -> Iterable[str]:
    """Throughput of each kind of server against the plain one; the first trial of each warms the server up."""
    found = orjson.loads(path.read_bytes())
    rates = {name: [t["output_tokens"] / t["makespan_s"] for t in trials[1:]] for name, trials in found.items()}
    plain = mean(rates["plain"])
    yield row(["server", "output tokens a second, by trial", "mean against plain"])
    yield row(["---", "---", "--:"])
    for name, values in rates.items():
        yield row([name, ", ".join(f"{v:.0f}" for v in values), f"{mean(values) / plain - 1:+.1%}"])


def decode_steps(runs: Iterable[Run]) -> Iterable[str]:
    """Median time of steps that only decode, by batch."""
    times: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        for step in run.steps or ():
            if step.decode and not step.prefill:
                times[len(step.decode)].append(step.end_s - step.start_s)
    yield row(["sequences", "steps", "median, ms"])
    yield row(["--:", "--:", "--:"])
    for size in sorted(times):
        if len(times[size]) >= 50:
            yield row([size, len(times[size]), f"{median(times[size]) * 1e3:.2f}"])


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    replayed = load_runs(folder / "workloads").runs
    for table in (workloads(replayed), overhead(folder / "overhead.json"), decode_steps(replayed)):
        print("\n".join(table), end="\n\n")
