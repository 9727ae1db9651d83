"""Runs as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rich.table import Table

from rejoule.traces.clock_curve import mark, marks_note
from rejoule.traces.engine_options import varying_options
from rejoule.traces.figures import workflow_j
from rejoule.traces.percentiles import percentile
from rejoule.traces.run import Configuration, Run
from rejoule.traces.summary import described, latencies_s, policy_word
from rejoule.traces.terminal import console


def figure(value: float | None, form: str = ",.1f") -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else format(value, form)


UNSAID: Final[Mapping[str, Callable[[Any], str]]] = {
    "engine": str,
    "profile": lambda value: "default profile" if value is None else str(value),
    "edge_set": lambda value: f"{value} edges",
    "arrivals": lambda value: f"{value} arrivals",
    "concurrency": lambda value: "any concurrency" if value is None else f"concurrency {value}",
    "time_scale": lambda value: f"time ×{value:g}",
    "seed": lambda value: f"seed {value}",
}
"""Knobs that are named where they vary alone, in words."""


def _left_out(run: Run) -> int:
    work = run.certificate.work
    return 0 if work is None else sum(named.amount.calls for named in work.left_out)


def named(runs: Sequence[Run]) -> dict[str, str]:
    """The configurations of runs in words, by run: no two look alike; beside policies, one without any says so."""
    options = varying_options([run.configuration.options for run in runs])
    scheduled = any(run.configuration.policy for run in runs)
    unsaid = [name for name in UNSAID if len({getattr(run.configuration, name) for run in runs}) > 1]
    found = {}
    for run in runs:
        c = run.configuration
        plain = described(c, options)
        words = [] if plain == described(Configuration()) else [plain]
        words += [policy_word(c)] if scheduled and c.policy is None else []
        words += [UNSAID[name](getattr(c, name)) for name in unsaid]
        found[run.id] = ", ".join(words) or plain
    return found


def print_runs(runs: Sequence[Run]) -> None:
    """One row a run: its energy, its latencies, and what the cap did; below, where the joules come from."""
    trials = len({run.trial for run in runs}) > 1
    table = Table(box=None, header_style="bold", pad_edge=False)
    # Names fold where there is little room, so that no two rows look alike; figures stay whole.
    table.add_column("trace", overflow="fold")
    table.add_column("configuration", overflow="fold")
    names = named(runs)
    headings = ["joules", "J/flow", "span s", "flow s", "TTFT s", "capped"]
    lost = [_left_out(run) for run in runs]
    headings += ["left out"] if any(lost) else []
    for name in ["trial", *headings] if trials else headings:
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for run, calls in zip(runs, lost, strict=True):
        latency = latencies_s(run)
        energy = run.energy.gpu_j
        if last not in (None, run.trace):
            table.add_section()
        table.add_row(
            run.trace if run.trace != last else "",
            names[run.id],
            *([str(run.trial)] if trials else []),
            figure(energy, ",.0f"),
            figure(workflow_j(run), ",.0f"),
            figure(run.makespan_s),
            figure(percentile(latency["workflow"], 50), ",.2f"),
            figure(percentile(latency["ttft"], 50), ",.3f"),
            " ".join(filter(None, (figure(run.power_cap.bound_fraction, ".0%"), mark(run)))),
            *([f"{calls:,}"] if any(lost) else []),
        )
        last = run.trace
    out = console()
    out.print(table)
    sources = sorted({run.energy.source.get("gpu", "not measured") for run in runs})
    out.print(
        f"joules: GPU, {', '.join(sources)}; J/flow: a complete workflow; flow, TTFT: medians of workflows and calls; "
        "capped: share of the busy time in which the cap held the clock down"
        + ("; left out: recorded calls that the run did not do" if any(lost) else "")
        + (f"; {said}" if (said := marks_note(runs)) else ""),
        style="dim",
    )
