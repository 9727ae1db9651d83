"""A trace for Perfetto's viewer, in Chrome's JSON trace event format.

Each run has processes of its own, all from time 0: its workflows (a track a lane of calls, phases inside), the
engine's steps, and the GPU, whose power and clock are counters and whose cap-bound stretches are spans. The integral of
a power counter over a run is the energy of the readings or steps that it is made of. Format: "Trace Event Format",
the Chromium project; times in µs.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any, Final

import orjson

from rejoule.analysis.export.exported import Exported, Source
from rejoule.analysis.export.tables import notes
from rejoule.analysis.pictures.lanes import Bar, bars
from rejoule.analysis.pictures.power import stretches
from rejoule.analysis.summary.summary import Summary, summarise
from rejoule.traces.run import Run, knobs

Event = dict[str, Any]
PROCESSES: Final = ("workflows", "engine", "GPU")
ENGINE, BOUND = 1, 1
"""Threads of the engine's steps and of cap-bound spans, in their processes."""


def export(source: Source) -> Exported:
    """Compressed, as the viewer takes it."""
    said = notes(source)
    events = [event for i, run in enumerate(source.runs) for event in _run(run, 1 + len(PROCESSES) * i)]
    body = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "generator": f"ReJoule {source.folder.experiment.rejoule_version}",
            "notes": list(said),
            "energy_source": {run.id: dict(run.energy.source) for run in source.runs},
        },
    }
    # The same bytes every time: no time of writing in the header.
    return Exported({"trace.json.gz": gzip.compress(orjson.dumps(body), 6, mtime=0)}, said, single=True)


def _run(run: Run, pid: int) -> Iterator[Event]:
    kind = run.energy.source.get("gpu")
    word = "energy not measured" if kind is None else f"{'measured' if run.measured else 'modelled'}: {kind}"
    for i, name in enumerate(PROCESSES):
        yield _name("process_name", pid + i, 0, f"{run.id}: {name}" + (f" ({word})" if name == "GPU" else ""))
        yield {"ph": "M", "name": "process_sort_index", "pid": pid + i, "tid": 0, "args": {"sort_index": pid + i}}
    settings = {name: value for name, value in knobs(run.configuration).items() if value is not None}
    yield {
        "ph": "M",
        "name": "process_labels",
        "pid": pid,
        "tid": 0,
        "args": {"labels": orjson.dumps(settings).decode()},
    }
    summary = summarise(run)
    yield from _workflows(summary, pid)
    yield from _steps(run, pid + 1)
    yield from _gpu(run, pid + 2, word)


def _workflows(summary: Summary, pid: int) -> Iterator[Event]:
    named: set[int] = set()
    for bar in bars(summary):
        if bar.lane not in named:
            named.add(bar.lane)
            yield _name("thread_name", pid, 1 + bar.lane, bar.workflow)
            sort = {"sort_index": bar.lane}
            yield {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": 1 + bar.lane, "args": sort}
        yield _span(
            bar.node, "tool call" if bar.call is None else "call", pid, 1 + bar.lane, bar.start_s, bar.end_s, _said(bar)
        )
        if bar.call is not None:
            for phase, a, b in bar.phases:
                yield _span(phase, "phase", pid, 1 + bar.lane, a, b, {})


def _said(bar: Bar) -> dict[str, Any]:
    call = bar.call
    if call is None:
        return {"workflow": bar.workflow}
    found = {
        "call": call.id,
        "workflow": call.workflow,
        "agent": call.agent,
        "prompt_tokens": call.prompt_tokens,
        "cached_tokens": call.cached_tokens,
        "output_tokens": call.output_tokens,
        "energy_j": bar.joules,
        "exact": call.exact,
        "error": call.error,
    }
    return {name: value for name, value in found.items() if value is not None}


def _steps(run: Run, pid: int) -> Iterator[Event]:
    if not run.steps:
        return
    yield _name("thread_name", pid, ENGINE, "steps")
    for step in run.steps:
        calls = len({*(p[0] for p in step.prefill), *(d[0] for d in step.decode)})
        yield {"ph": "C", "name": "calls in a step", "pid": pid, "ts": _us(step.start_s), "args": {"calls": calls}}
        if step.idle or step.end_s <= step.start_s:
            continue
        kinds = [name for name, work in (("prefill", step.prefill), ("decode", step.decode)) if work]
        said = {
            "engine_steps": step.steps,
            "calls": calls,
            "prefill_tokens": sum(p[1] for p in step.prefill),
            "cached_tokens": sum(p[2] for p in step.prefill),
            "decode_tokens": sum(d[1] for d in step.decode),
            **({} if step.energy_j is None else {"energy_j": step.energy_j}),
        }
        yield _span(" + ".join(kinds), "engine step", pid, ENGINE, step.start_s, step.end_s, said)
    end = {"ph": "C", "name": "calls in a step", "pid": pid, "ts": _us(run.steps[-1].end_s), "args": {"calls": 0}}
    yield end


def _gpu(run: Run, pid: int, word: str) -> Iterator[Event]:
    found = stretches(run)
    if not found:
        return
    power, end = f"GPU power (W, {word})", found[-1].end_s

    def counter(name: str, at_s: float, value: float) -> Event:
        return {"ph": "C", "name": name, "pid": pid, "ts": _us(at_s), "args": {"value": value}}

    for piece in found:
        # Of the rounded length, so that no joule is lost to rounding.
        seconds = (_ns(piece.end_s) - _ns(piece.start_s)) / 1e9
        if seconds <= 0.0:
            continue
        yield counter(power, piece.start_s, piece.energy_j / seconds)
        if piece.hbm_w is not None:
            yield counter("HBM power (W)", piece.start_s, piece.hbm_w)
        if piece.clock_mhz is not None:
            yield counter("SM clock (MHz)", piece.start_s, piece.clock_mhz)
    yield counter(power, end, 0.0)
    if any(piece.bound for piece in found):
        yield _name("thread_name", pid, BOUND, "cap bound")
        for piece in found:
            if piece.bound:
                said = {"share": piece.bound, "cap_in_force_w": run.power_cap.in_force_w}
                yield _span("cap bound", "cap", pid, BOUND, piece.start_s, piece.end_s, said)


def _name(kind: str, pid: int, tid: int, name: str) -> Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _span(name: str, category: str, pid: int, tid: int, start_s: float, end_s: float, said: dict[str, Any]) -> Event:
    # Ends are rounded, not lengths: what touches does not overlap.
    length = (_ns(end_s) - _ns(start_s)) / 1000
    place = {"pid": pid, "tid": tid, "ts": _us(start_s), "dur": length}
    return {"ph": "X", "name": name, "cat": category, **place, "args": said}


def _ns(at_s: float) -> int:
    return round(at_s * 1e9)


def _us(at_s: float) -> float:
    return _ns(at_s) / 1000
