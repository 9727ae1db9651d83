"""Runs, calls, nodes and steps as long tables: a row each, units in the names, whose joules in a column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from rejoule.analysis.export.exported import Source
from rejoule.analysis.summary.lines import line
from rejoule.analysis.summary.summary import Summary, trials
from rejoule.traces.frames import run_row
from rejoule.traces.run import Run, configuration_key
from rejoule.traces.tabular import Columns, columns_of

SOURCE: Final = "energy_source"
MEASURED: Final = "energy_measured"
"""Whether the joules of the row were measured rather than modelled; ``None`` where there are none."""


def tables(source: Source) -> dict[str, Columns]:
    """By name. ``nodes`` has the lines that no call owes, too: within a run its ``energy_j`` add up to the run's."""
    summaries = _summaries(source.runs)
    return {
        "runs": columns_of(map(_run, source.runs)),
        "calls": columns_of(row for s in summaries for row in _calls(s)),
        "nodes": columns_of(row for s in summaries for row in _nodes(s)),
        "steps": columns_of(row for run in source.runs for row in _steps(run)),
    }


def notes(source: Source) -> tuple[str, ...]:
    """Those of the source, and what the tables leave out."""
    withheld = {s.run.id: s.attribution.withheld for s in _summaries(source.runs) if s.attribution is not None}
    blind = [run.id for run in source.runs if run.steps is None]
    found = [*source.notes]
    found += [f"{name}: joules by call and node are withheld: {reason}" for name, reason in withheld.items() if reason]
    if blind:
        found.append(
            f"no engine steps were recorded in {len(blind)} of {len(source.runs)} runs: {', '.join(blind[:9])}"
        )
    rejected = [r.id for r in source.runs if r.conditions is not None and r.conditions.rejected]
    if rejected:
        found.append(f"joules that should not be used, as their runs say: {', '.join(rejected)}")
    return tuple(found)


def _summaries(runs: Sequence[Run]) -> list[Summary]:
    alike: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        alike.setdefault((run.trace, configuration_key(run.configuration)), []).append(run)
    return [summary for group in alike.values() for summary in trials(group)]


def _origin(run: Run) -> dict[str, Any]:
    kind = run.energy.source.get("gpu")
    return {SOURCE: kind, MEASURED: None if kind is None else run.measured}


def _of(run: Run) -> dict[str, Any]:
    return {"run": run.id, "trace": run.trace, "trial": run.trial}


def _run(run: Run) -> dict[str, Any]:
    row = run_row(run)
    del row["gpu_source"]
    return row | _origin(run)


def _calls(summary: Summary) -> Iterator[dict[str, Any]]:
    run, found = summary.run, summary.attribution
    energy = {} if found is None or found.withheld else {c.call: c.energy for c in found.calls}
    for call in run.calls:
        joules = energy.get(call.id)
        yield {
            **_of(run),
            "call": call.id,
            "workflow": call.workflow,
            "node": call.node,
            "agent": call.agent,
            "due_s": call.due_s,
            "sent_s": call.sent_s,
            "first_token_s": call.first_token_s,
            "end_s": call.end_s,
            "prompt_tokens": call.prompt_tokens,
            "cached_tokens": call.cached_tokens,
            "output_tokens": call.output_tokens,
            "preemptions": call.preemptions,
            "exact": call.exact,
            "error": call.error,
            "prefill_j": None if joules is None else joules.prefill_j,
            "decode_j": None if joules is None else joules.decode_j,
            "energy_j": None if joules is None else joules.total_j,
            **_origin(run),
        }


def _nodes(summary: Summary) -> Iterator[dict[str, Any]]:
    run, found = summary.run, summary.attribution
    if found is None:
        return
    counts: dict[str, int] = {}
    for call in run.calls:
        counts[call.node] = counts.get(call.node, 0) + 1
    parts: list[tuple[str, Mapping[str, Any]]] = []
    if found.withheld:
        rest = found.gpu_j - found.idle_j - found.idle_gpus_j - found.unattributed_j
        parts.append(("all calls", {"calls": len(run.calls), "energy_j": rest}))
    else:
        for name, energy in found.by_node().items():
            shares = {"prefill_j": energy.prefill_j, "decode_j": energy.decode_j, "energy_j": energy.total_j}
            parts.append((line(name), {"calls": counts[name], **shares, "uncertainty_j": energy.uncertainty_j}))
    parts += [
        ("tool wait", {"energy_j": found.tool_wait_j}),
        ("idle", {"energy_j": found.idle_j - found.tool_wait_j}),
        ("idle GPUs", {"energy_j": found.idle_gpus_j}),
        ("unattributed", {"energy_j": found.unattributed_j}),
    ]
    blank = {"calls": None, "prefill_j": None, "decode_j": None, "energy_j": None, "uncertainty_j": None}
    for name, values in parts:
        yield {**_of(run), "node": name, **blank, **values, "attributed_from": found.method, **_origin(run)}


def _steps(run: Run) -> Iterable[dict[str, Any]]:
    for step in run.steps or ():
        yield {
            **_of(run),
            "start_s": step.start_s,
            "end_s": step.end_s,
            "engine_steps": step.steps,
            "calls": len({*(p[0] for p in step.prefill), *(d[0] for d in step.decode)}),
            "prefill_tokens": sum(p[1] for p in step.prefill),
            "cached_tokens": sum(p[2] for p in step.prefill),
            "decode_tokens": sum(d[1] for d in step.decode),
            "preempted_calls": len(step.preempted),
            "energy_j": step.energy_j,
            "sm_clock_mhz": step.sm_clock_mhz,
            "cap_bound": step.cap_bound,
            **_origin(run),
        }
