"""A load served, watched and written down as ReJoule's recorder would, with its truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import fsum
from typing import Final

from benchmarks.judge.engine import Log, serve
from benchmarks.judge.loads import Load
from benchmarks.judge.sensors import watch
from benchmarks.judge.truth import truth

from rejoule.traces.run import (
    CallResult,
    Certificate,
    Conditions,
    Configuration,
    Energy,
    PowerCap,
    Run,
    Step,
    ToolResult,
    WorkflowResult,
)

ORDERS: Final = (24, 96)
"""Sampled of each step, in small batches and in those of more than six calls."""


@dataclass(frozen=True)
class Judged:
    run: Run
    calls: Mapping[str, tuple[float, float]]
    """Joules that each call truly cost in prefill and in decode."""
    idle_j: float
    """Of the GPU that worked, without work, waiting for tools included."""

    def lines(self) -> dict[tuple[str, str], float]:
        """True joules by kind of line and name."""
        nodes: dict[str, list[float]] = {}
        for call in self.run.calls:
            nodes.setdefault(call.node, []).append(fsum(self.calls[call.id]))
        return {
            **{("nodes", name): fsum(joules) for name, joules in nodes.items()},
            **{("calls", name): fsum(joules) for name, joules in self.calls.items()},
            ("phases", "prefill"): fsum(prefill for prefill, _ in self.calls.values()),
            ("phases", "decode"): fsum(decode for _, decode in self.calls.values()),
            ("idle", "idle"): self.idle_j,
        }


def made(load: Load, seed: int, trial: int | None = None) -> Judged:
    """One run; with ``trial``, one of several that do the same work."""
    log = served(load, seed, trial)
    found = truth(log, load.physics, ORDERS[len(log.step) > 6 * sum(log.busy)], seed)
    run = recorded(load, log, seed, trial)
    pairs = zip(_names(log), found.prefill_j.tolist(), found.decode_j.tolist(), strict=True)
    return Judged(run, {name: (prefill, decode) for name, prefill, decode in pairs}, found.idle_j)


def served(load: Load, seed: int, trial: int | None = None) -> Log:
    return serve(load.stages, load.rate, load.length_s, load.physics, load.slots, seed, trial)


def recorded(load: Load, log: Log, seed: int, trial: int | None = None) -> Run:
    """What a recorder knows of what was served."""
    seen = watch(log, load.sensor, load.company, seed if trial is None else 1000 * seed + trial)
    names = _names(log)
    calls = tuple(
        CallResult(
            name,
            f"w{job.workflow:04}",
            job.kind.node,
            job.sent_s,
            job.sent_s,
            job.end_s,
            job.first_s,
            job.prompt,
            job.cached,
            job.output,
        )
        for name, job in zip(names, log.jobs, strict=True)
    )
    return Run(
        id=f"judged-{seed}" if trial is None else f"judged-{seed}-{trial}",
        trace=load.name,
        trace_digest="judged",
        configuration=Configuration(engine="vllm", max_num_seqs=load.slots),
        trial=seed if trial is None else trial,
        makespan_s=log.end_s[-2],
        calls=calls,
        workflows=_workflows(calls),
        tools=tuple(
            ToolResult(f"t{i:04}", f"w{workflow:04}", node, "tool", start, end)
            for i, (workflow, node, start, end) in enumerate(log.tools)
        ),
        energy=Energy(seen.energy_j, source={"gpu": "nvml-counter"}, uncertainty_j={"gpu": seen.uncertainty_j}),
        power_cap=PowerCap(None, 700.0, 0.0),
        certificate=Certificate("tokens", "judged", len(calls)),
        steps=tuple(_steps(log, names, load.unrecorded_cache)),
        readings=seen.readings,
        conditions=Conditions(
            gpus=("GPU-0", "GPU-1") if load.company.second_gpu_w else ("GPU-0",),
            loaded_w=seen.loaded_w,
            after_w=seen.after_w,
        ),
    )


def _names(log: Log) -> list[str]:
    return [f"c{job.call:05}" for job in log.jobs]


def _workflows(calls: tuple[CallResult, ...]) -> tuple[WorkflowResult, ...]:
    spans: dict[str, tuple[float, float]] = {}
    for call in calls:
        start, end = spans.get(call.workflow, (call.sent_s, call.end_s))
        spans[call.workflow] = (min(start, call.sent_s), max(end, call.end_s))
    return tuple(WorkflowResult(name, "judged", start, end) for name, (start, end) in spans.items())


def _steps(log: Log, names: list[str], unrecorded: bool) -> Iterator[Step]:
    """The first and the last stretch lie outside the run."""
    at = 0
    for number in range(len(log.start_s)):
        prefill, decode, before, attended = [], [], [], []
        while at < len(log.step) and log.step[at] == number:
            call, tokens, context = log.call[at], log.tokens[at], log.context[at]
            if log.prompt[at]:
                prefill.append((names[call], tokens, log.jobs[call].cached))
                before.append(context)
            else:
                decode.append((names[call], tokens))
                attended.append(context)
            at += 1
        if 0 < number < len(log.start_s) - 1:
            step = Step(
                log.start_s[number],
                log.end_s[number],
                int(log.busy[number]),
                None,
                prefill=tuple(prefill),
                decode=tuple(decode),
                prefill_context=tuple(before),
                decode_context=tuple(attended),
            )
            yield _forgetful(step) if unrecorded else step


def _forgetful(step: Step) -> Step:
    return replace(
        step,
        prefill=tuple((call, tokens, 0) for call, tokens, _ in step.prefill),
        prefill_context=(),
        decode_context=(),
    )
