"""Runs as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rejoule.traces.run import Run
from rejoule.traces.summary import described, latencies_s, percentile


def figure(value: float | None, form: str = ",.1f") -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else format(value, form)


def print_runs(runs: Sequence[Run]) -> None:
    """One row a run: its energy and where the joules come from, its latencies, and what the cap did."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("trace")
    table.add_column("configuration")
    for name in ("trial", "energy J", "J/workflow", "makespan s", "workflow p50 s", "TTFT p50 s", "cap bound"):
        table.add_column(name, justify="right")
    table.add_column("joules from")
    last = None
    for run in runs:
        latency = latencies_s(run)
        energy = run.energy.gpu_j
        bound = run.power_cap.bound_fraction
        if last not in (None, run.trace):
            table.add_section()
        table.add_row(
            run.trace if run.trace != last else "",
            described(run.configuration),
            str(run.trial),
            figure(energy),
            figure(None if energy is None else energy / len(run.workflows)),
            figure(run.makespan_s),
            figure(percentile(latency["workflow"], 50), ",.2f"),
            figure(percentile(latency["ttft"], 50), ",.3f"),
            figure(bound, ".0%"),
            run.energy.source.get("gpu", "–"),
        )
        last = run.trace
    Console().print(table)
