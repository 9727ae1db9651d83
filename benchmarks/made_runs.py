"""Runs made up from known physics: a batching engine whose steps cost what we say, watched by a ticking counter."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rejoule.traces.run import (
    CallResult,
    Certificate,
    Conditions,
    Configuration,
    Energy,
    PowerCap,
    Reading,
    Run,
    Step,
    WorkflowResult,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls of one node: their mean lengths, drawn evenly from half to one and a half of it."""

    node: str
    prompt_tokens: int
    output_tokens: int
    cached: float = 0.0
    """Share of the prompt that the prefix cache holds."""


@dataclass(frozen=True, slots=True)
class Physics:
    """Time and energy of a step by what is in it. The times are those that one H200 took for an 8B model's decode steps
    and prompts (``docs/h200.md``), the energies these times at 450 to 650 W; attention is from the model's shape."""

    step_s: float = 5.1e-3
    decode_token_s: float = 5e-5
    attended_s: float = 2.7e-8
    prefill_token_s: float = 2.5e-5
    pair_s: float = 1e-9
    step_w: float = 450.0
    decode_w: float = 600.0
    prefill_w: float = 650.0
    idle_w: float = 125.0
    noise: float = 0.02
    """Standard deviation of a step's energy, relative."""


@dataclass(frozen=True, slots=True)
class Sensor:
    tick_s: float = 0.1
    jitter_s: float = 0.004
    lag_s: float = 0.03
    """How old the energy is that a tick tells."""


@dataclass
class _Job:
    call: str
    kind: Kind
    arrival_s: float
    prompt: int
    cached: int
    output: int
    at: int = 0
    emitted: int = 0
    first_s: float | None = None
    end_s: float | None = None


@dataclass
class _Log:
    steps: list[Step] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    truth: dict[str, float] = field(default_factory=dict)


def made_run(
    kinds: Sequence[Kind],
    rate: float,
    calls: int,
    seed: int = 0,
    physics: Physics | None = None,
    sensor: Sensor | None = None,
    max_num_seqs: int = 256,
    budget: int = 2048,
    trial: int = 0,
) -> tuple[Run, Mapping[str, float]]:
    """A tapped run of ``calls`` Poisson arrivals at ``rate`` a second, and what each call truly cost.

    The truth is each call's own marginal energy and its equal share of the fixed energy of its steps.
    """
    physics, sensor = physics or Physics(), sensor or Sensor()
    draw = random.Random(seed)
    jobs = _arrivals(draw, kinds, rate, calls)
    log = _serve(draw, jobs, physics, max_num_seqs, budget)
    end_s = log.steps[-1].end_s
    readings = _read(draw, log, sensor)
    total_j = sum(r.energy_j for r in readings)
    results = tuple(
        CallResult(
            job.call,
            job.call,
            job.kind.node,
            job.arrival_s,
            job.arrival_s,
            job.end_s or end_s,
            job.first_s,
            job.prompt,
            job.cached,
            job.output,
        )
        for job in jobs
    )
    run = Run(
        id=f"made-{seed}-{trial}",
        trace="+".join(kind.node for kind in kinds),
        trace_digest="made",
        configuration=Configuration(engine="vllm", max_num_seqs=max_num_seqs),
        trial=trial,
        makespan_s=end_s,
        calls=results,
        workflows=tuple(WorkflowResult(c.id, "made", c.sent_s, c.end_s) for c in results),
        tools=(),
        energy=Energy(total_j, source={"gpu": "nvml-counter"}, uncertainty_j={"gpu": 2.0 * physics.step_w * 0.05}),
        power_cap=PowerCap(None, 700.0, 0.0),
        certificate=Certificate("tokens", "made", len(results)),
        steps=tuple(log.steps),
        readings=readings,
        conditions=Conditions(loaded_w=physics.idle_w, sm_clock_mhz=1980.0),
    )
    return run, log.truth


def _arrivals(draw: random.Random, kinds: Sequence[Kind], rate: float, calls: int) -> list[_Job]:
    jobs, now = [], 0.5
    for i in range(calls):
        now += draw.expovariate(rate)
        kind = kinds[draw.randrange(len(kinds))]
        prompt = max(2, round(kind.prompt_tokens * draw.uniform(0.5, 1.5)))
        output = max(1, round(kind.output_tokens * draw.uniform(0.5, 1.5)))
        cached = min(prompt - 1, round(kind.cached * prompt))
        jobs.append(_Job(f"c{i:05}", kind, now, prompt, cached, output, cached))
    return jobs


def _serve(draw: random.Random, jobs: Sequence[_Job], physics: Physics, max_num_seqs: int, budget: int) -> _Log:
    """Continuous batching with chunked prefill: decodes first, then prompts in order of arrival."""
    waiting, running, log, now = deque(jobs), list[_Job](), _Log(), 0.0
    log.truth.update({job.call: 0.0 for job in jobs})
    while waiting or running:
        while waiting and waiting[0].arrival_s <= now and len(running) < max_num_seqs:
            running.append(waiting.popleft())
        if not running:
            seconds = waiting[0].arrival_s - now
            log.steps.append(Step(now, now + seconds, 0, None))
            log.joules.append(physics.idle_w * seconds)
            now += seconds
            continue
        decoding = [job for job in running if job.at >= job.prompt]
        room = budget - len(decoding)
        chunks = []
        for job in running:
            if job.at < job.prompt and room > 0:
                chunks.append((job, min(room, job.prompt - job.at)))
                room -= chunks[-1][1]
        now = _step(draw, now, decoding, chunks, physics, log)
        for job, tokens in chunks:
            job.at += tokens
            if job.at >= job.prompt:
                job.first_s, job.emitted = now, 1
        for job in decoding:
            job.at, job.emitted = job.at + 1, job.emitted + 1
        for job in running:
            if job.emitted >= job.output:
                job.end_s = now
        running = [job for job in running if job.end_s is None]
    log.steps.append(Step(now, now + 0.5, 0, None))
    log.joules.append(physics.idle_w * 0.5)
    return log


def _step(
    draw: random.Random,
    now: float,
    decoding: Sequence[_Job],
    chunks: Sequence[tuple[_Job, int]],
    physics: Physics,
    log: _Log,
) -> float:
    owed: dict[str, float] = {}
    seconds = physics.step_s
    for job in decoding:
        took = physics.decode_token_s + physics.attended_s * job.at
        seconds += took
        owed[job.call] = took * physics.decode_w
    for job, tokens in chunks:
        took = physics.prefill_token_s * tokens + physics.pair_s * tokens * (job.at + tokens / 2)
        seconds += took
        owed[job.call] = took * physics.prefill_w
    each = physics.step_s * physics.step_w / len(owed)
    factor = 1.0 + draw.gauss(0.0, physics.noise)
    for call, joules in owed.items():
        log.truth[call] += (joules + each) * factor
    log.joules.append((sum(owed.values()) + each * len(owed)) * factor)
    log.steps.append(
        Step(
            now,
            now + seconds,
            1,
            None,
            prefill=tuple((job.call, tokens, job.cached) for job, tokens in chunks),
            decode=tuple((job.call, 1) for job in decoding),
            prefill_context=tuple(job.at for job, _ in chunks),
            decode_context=tuple(job.at for job in decoding),
        )
    )
    return now + seconds


def _read(draw: random.Random, log: _Log, sensor: Sensor) -> tuple[Reading, ...]:
    """What a counter that ticks every 100 ms says: late, and a little off the beat."""
    end_s = log.steps[-1].end_s
    edges, beat = [0.0], sensor.tick_s
    while beat < end_s - sensor.tick_s:
        edges.append(beat + draw.uniform(0.0, sensor.jitter_s))
        beat += sensor.tick_s
    edges.append(end_s)
    readings, at, told, inside = [], 0, 0.0, 0.0
    for start, end in pairwise(edges):
        moment = end if end == end_s else end - sensor.lag_s
        while at < len(log.steps) and log.steps[at].end_s <= moment:
            inside += log.joules[at]
            at += 1
        here = inside
        if at < len(log.steps):
            step = log.steps[at]
            here += log.joules[at] * (moment - step.start_s) / (step.end_s - step.start_s)
        readings.append(Reading(start, end, here - told))
        told = here
    return tuple(readings)
