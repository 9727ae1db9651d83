"""Serves workflows by continuous batching, and writes down what every step held, took and cost."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

import numpy as np
from benchmarks.judge.physics import Array, Demand, Physics

LEAD_S = 2.5
"""Idle before the run and after it: what a late sensor tells at the run's ends."""
BUDGET = 2048
"""Tokens of a step."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls of one node: lengths are drawn evenly from half to one and a half of these."""

    node: str
    prompt: int
    output: int
    cached: float = 0.0
    """Share of the prompt that the prefix cache holds."""
    alike: bool = False
    """Lengths are just these."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Calls that a workflow sends together, when those before have ended and a tool has run."""

    kinds: tuple[Kind, ...]
    tool_s: float = 0.0


@dataclass(eq=False, slots=True)
class Job:
    call: int
    workflow: int
    stage: int
    kind: Kind
    sent_s: float
    prompt: int
    cached: int
    output: int
    at: int = 0
    emitted: int = 0
    first_s: float = 0.0
    end_s: float = 0.0


@dataclass
class Log:
    """Columns of steps (idle ones included) and of entries: one call in one step."""

    start_s: list[float] = field(default_factory=list)
    end_s: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    busy: list[bool] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    call: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    context: list[int] = field(default_factory=list)
    prompt: list[bool] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    tools: list[tuple[int, str, float, float]] = field(default_factory=list)
    """Workflow, node that waits, start and end."""


def serve(
    stages: Sequence[Sequence[Stage]],
    rate: float,
    length_s: float,
    physics: Physics,
    slots: int,
    seed: int,
    trial: int | None = None,
) -> Log:
    """Poisson arrivals of workflows, each of one of these shapes, for ``length_s``; all are served to their end.

    Trials of one seed do the same work at the same times, and differ in noise and leakage.
    """
    draw = random.Random(seed)
    noise = draw if trial is None else random.Random(1000 * seed + trial)
    log, calls, order = Log(), count(), count()
    due: list[tuple[float, int, Job]] = []
    left: dict[tuple[int, int], int] = {}
    shapes: list[Sequence[Stage]] = []
    leak = _wandering(noise, physics.drift_w)

    def send(workflow: int, stage: int, now: float) -> None:
        for kind in shapes[workflow][stage].kinds:
            prompt, output = (
                max(2, round(n * (1.0 if kind.alike else draw.uniform(0.5, 1.5)))) for n in _lengths(kind)
            )
            cached = min(prompt - 1, round(kind.cached * prompt))
            job = Job(next(calls), workflow, stage, kind, now, prompt, cached, output, cached)
            log.jobs.append(job)
            heappush(due, (now, next(order), job))
        left[workflow, stage] = len(shapes[workflow][stage].kinds)

    arrival = draw.uniform(0.2, 0.6)
    while arrival < length_s:
        shapes.append(stages[draw.randrange(len(stages))])
        send(len(shapes) - 1, 0, arrival)
        arrival += draw.expovariate(rate)

    now, hot_w, clock = 0.0, physics.card.idle_w, 1.0
    idle_w = physics.card.idle_w
    _idle(log, -LEAD_S, 0.0, idle_w + next(leak))
    running: list[Job] = []
    while due or running:
        while due and due[0][0] <= now and len(running) < slots:
            running.append(heappop(due)[2])
        if not running:
            _idle(log, now, due[0][0], idle_w + next(leak))
            now = due[0][0]
            continue
        took, joules = _step(log, now, running, physics, clock, noise, next(leak))
        if physics.throttles:
            weight = min(1.0, took / 1.5)
            hot_w += weight * (joules / took - hot_w)
            clock = min(1.0, max(0.6, 1.0 - (hot_w - 420.0) / 400.0))
        now += took
        for job in [job for job in running if job.at == job.prompt and not job.emitted]:
            job.first_s, job.emitted = now, 1
        for job in [job for job in running if job.emitted >= job.output]:
            job.end_s = now
            running.remove(job)
            key = (job.workflow, job.stage)
            left[key] -= 1
            if not left[key] and job.stage + 1 < len(shapes[job.workflow]):
                follows = shapes[job.workflow][job.stage + 1]
                if follows.tool_s:
                    later = now + follows.tool_s * draw.uniform(0.5, 1.5)
                    log.tools.append((job.workflow, follows.kinds[0].node, now, later))
                else:
                    later = now + draw.uniform(0.001, 0.003)
                send(job.workflow, job.stage + 1, later)
    _idle(log, now, now + 0.3, idle_w + next(leak))
    _idle(log, now + 0.3, now + 0.3 + LEAD_S, idle_w + next(leak))
    return log


def _lengths(kind: Kind) -> tuple[int, int]:
    return kind.prompt, kind.output


def _idle(log: Log, start_s: float, end_s: float, watts: float) -> None:
    log.start_s.append(start_s)
    log.end_s.append(end_s)
    log.joules.append(watts * (end_s - start_s))
    log.clock.append(1.0)
    log.busy.append(False)


def _step(
    log: Log, now: float, running: Sequence[Job], physics: Physics, clock: float, draw: random.Random, leak_w: float
) -> tuple[float, float]:
    """Decodes first, then prompts in chunks, in order of arrival."""
    number, first = len(log.start_s), len(log.step)
    decoding = [job for job in running if job.emitted]
    room = BUDGET - len(decoding)
    for job in decoding:
        _enter(log, number, job, 1, job.at, False)
        job.at, job.emitted = job.at + 1, job.emitted + 1
    for job in running:
        if not job.emitted and room > 0:
            chunk = min(room, job.prompt - job.at)
            _enter(log, number, job, chunk, job.at, True)
            job.at, room = job.at + chunk, room - chunk
    held = demand(*(np.array(column[first:], dtype=np.float64) for column in (log.tokens, log.context, log.prompt)))
    seconds, joules = (float(values[0]) for values in physics.cost(held, np.array([clock])))
    joules = joules * (1.0 + draw.gauss(0.0, physics.step_noise)) + leak_w * seconds
    log.start_s.append(now)
    log.end_s.append(now + seconds)
    log.joules.append(joules)
    log.clock.append(clock)
    log.busy.append(True)
    return seconds, joules


def _enter(log: Log, step: int, job: Job, tokens: int, context: int, prompt: bool) -> None:
    log.step.append(step)
    log.call.append(job.call)
    log.tokens.append(tokens)
    log.context.append(context)
    log.prompt.append(prompt)


def demand(tokens: Array, context: Array, prompt: Array) -> Demand:
    """Entries of one step added up."""
    columns = (tokens, context, tokens * (context + tokens / 2.0), prompt)
    return Demand(*(np.array([column.sum()]) for column in columns))


def _wandering(draw: random.Random, sigma_w: float) -> Iterator[float]:
    """Watts that come and go slowly: an autoregression with a memory of some thousand steps."""
    value, memory = draw.gauss(0.0, sigma_w), 0.9995
    while True:
        yield value
        value = memory * value + draw.gauss(0.0, sigma_w * (1.0 - memory**2) ** 0.5)
