"""What a run tells of the engine's steps and of the GPUs' power, in the terms of the simulator's models."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import fsum, log
from statistics import median, median_low
from typing import Final, Literal

from rejoule.replay.sim.latency import Work
from rejoule.traces.contexts import contexts
from rejoule.traces.engine_options import NCCL_ALONE
from rejoule.traces.run import Reading, Run, Step

Kind = Literal["decode", "prefill", "mixed"]
Engine = tuple[int | None, bool]
"""Its ``max_num_seqs``, and whether GPUs may exchange by vLLM's own kernels."""

BLURRED_S: Final = 0.1
"""A step that lasts longer has hidden the host's work for the next one."""
BIN: Final = 0.05
"""Spans whose work differs by less, relatively, are taken together."""
CLOCK_BIN_MHZ: Final = 15.0
LAUNCH_BIN: Final = 0.5
"""The same, for launches, which depend on their work but a little."""
STALLED: Final = 3.0
"""A launch of so many times the median waited for something else, such as a kernel that was loaded."""


@dataclass(frozen=True, slots=True)
class ObservedStep:
    """One engine step, or the mean one of a stretch of equal ones."""

    work: Work
    steps: int
    start_s: float
    end_s: float
    clock_mhz: float | None
    """SM clock over it; ``None`` if nobody looked."""
    seats: int | None = None
    """The engine's ``max_num_seqs``, which says for how many tokens it has CUDA graphs."""
    custom_all_reduce: bool = True

    @property
    def engine(self) -> Engine:
        """What of the engine a model of its times must know."""
        return self.seats, self.custom_all_reduce

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def each_s(self) -> float:
        """Duration of one of them."""
        return self.duration_s / self.steps


@dataclass(frozen=True, slots=True)
class Span:
    """Steps whose time is known together, not each by itself.

    An asynchronous engine takes over a step's output only after it has launched the next one; if that takes the host
    long, as it does with prompts, it counts for the wrong step.
    """

    steps: tuple[ObservedStep, ...]
    ends: bool
    """Whether nothing was launched behind it: the engine had nothing to do after it."""

    @property
    def duration_s(self) -> float:
        return fsum(s.duration_s for s in self.steps)

    @property
    def kind(self) -> Kind:
        prompts = any(s.work.prefills for s in self.steps)
        decodes = any(s.work.decodes for s in self.steps)
        return "mixed" if prompts and decodes else "prefill" if prompts else "decode"


@dataclass(frozen=True, slots=True)
class Bin:
    """Spans of nearly the same work, by the one of median duration."""

    span: Span
    duration_s: float
    count: int


@dataclass(frozen=True, slots=True)
class Launch:
    """How long the host needs to launch a step with prompts: for so long the decode step before it seems to last."""

    before: ObservedStep
    launched: ObservedStep
    host_s: float
    """Mean over ``count`` launches of nearly the same work. Hosts are fast at times and slow at others, and a caller
    waits for the mean."""
    count: int


@dataclass(frozen=True, slots=True)
class PowerReading:
    """A reading, with the steps that it saw: pairs of a step and the share of it that lies within."""

    power_w: float
    length_s: float
    clock_mhz: float
    seen: tuple[tuple[ObservedStep, float], ...]
    hbm_w: float | None = None
    """What the memory drew of it, as a mean of the last second."""


def observed_steps(run: Run, highest: Callable[[Work, Engine], float] | None = None) -> Iterator[ObservedStep]:
    """The steps of a run that did something, in order; none if the engine was not watched.

    ``highest`` says which SM clock a step cannot exceed, by its work and the engine: the sensor does not see
    the clock fall within a burst of some 100 ms.
    """
    steps = run.steps or ()
    prompts = {call.id: call.prompt_tokens for call in run.calls}
    clock_of = _clocks(run.readings or ())
    told = run.engine.get("max_num_seqs", run.configuration.max_num_seqs)
    engine = (told if isinstance(told, int) else None, not run.configuration.options.get(NCCL_ALONE))
    idle = True
    for step, (before, attended) in zip(steps, contexts(steps, prompts), strict=True):
        if not step.idle and step.end_s > step.start_s and step.steps:
            clock = step.sm_clock_mhz
            work = _work(step, before, attended, prompts, idle)
            if clock is None:
                clock = clock_of(step.start_s, step.end_s)
                if clock is not None and highest is not None:
                    clock = min(clock, highest(work, engine))
            yield ObservedStep(work, step.steps, step.start_s, step.end_s, clock, *engine)
        idle = step.idle


def spans(steps: Iterable[ObservedStep], workers: bool = False) -> Iterator[Span]:
    """Steps, grouped so that no time has spilled from one group to the next; where ``workers`` launch, it spills into
    the step behind a prompt, too."""
    held: list[ObservedStep] = []
    for step in steps:
        launched = step.work.prefills or (workers and held and held[-1].work.prefills)
        if held and (step.work.first or not launched or held[-1].each_s > BLURRED_S):
            yield Span(tuple(held), ends=step.work.first)
            held = []
        held.append(step)
    if held:
        yield Span(tuple(held), ends=True)


def binned(found: Iterable[Span]) -> list[Bin]:
    """Spans of nearly equal work as one, in order of their first; an outlier does not move the median."""
    alike: dict[tuple[int, ...], list[Span]] = defaultdict(list)
    for span in found:
        alike[_signature(span)].append(span)
    bins = []
    for members in alike.values():
        each = [m.duration_s / m.steps[0].steps if len(m.steps) == 1 else m.duration_s for m in members]
        middle = median_low(each)
        count = sum(m.steps[0].steps for m in members)
        bins.append(Bin(members[each.index(middle)], middle, count))
    return bins


def launches(found: Iterable[Span]) -> list[Launch]:
    """The launches behind steps that only decode, those of like batches as one."""
    alike: dict[tuple[int, ...], list[Span]] = defaultdict(list)
    for span in found:
        if len(span.steps) > 1 and not span.steps[0].work.prefills and span.steps[0].steps == 1:
            launched = span.steps[1]
            work = launched.work
            sizes = (work.prefills, work.prefill_tokens, work.decodes)
            alike[
                launched.seats or 0, launched.custom_all_reduce, *(round(log(1 + size) / LAUNCH_BIN) for size in sizes)
            ].append(span)
    each = []
    for members in alike.values():
        stalled_s = STALLED * median(m.steps[0].duration_s for m in members)
        kept = [m for m in members if m.steps[0].duration_s <= stalled_s]
        mean_s = fsum(m.steps[0].duration_s for m in kept) / len(kept)
        each.append(Launch(kept[0].steps[0], kept[0].steps[1], mean_s, len(kept)))
    return each


def power_readings(run: Run, steps: Sequence[ObservedStep]) -> Iterator[PowerReading]:
    """The readings of a run that know the clock, each with those of ``steps`` that lie in it."""
    starts = [s.start_s for s in steps]
    for reading in run.readings or ():
        length_s = reading.end_s - reading.start_s
        if length_s <= 0 or reading.sm_clock_mhz is None:
            continue
        seen = []
        clock = busy_s = 0.0
        at = max(0, bisect_right(starts, reading.start_s) - 1)
        while at < len(steps) and steps[at].start_s < reading.end_s:
            step = steps[at]
            shared_s = min(step.end_s, reading.end_s) - max(step.start_s, reading.start_s)
            if shared_s > 0:
                seen.append((step, shared_s / step.duration_s))
                clock += shared_s * (step.clock_mhz or reading.sm_clock_mhz)
                busy_s += shared_s
            at += 1
        clock = clock / busy_s if seen else reading.sm_clock_mhz
        yield PowerReading(reading.energy_j / length_s, length_s, clock, tuple(seen), reading.hbm_w)


def whole_run(run: Run, steps: Sequence[ObservedStep], otherwise_mhz: float) -> PowerReading | None:
    """A run with its steps as one reading; ``None`` if its energy or its steps are unknown."""
    joules, length_s = run.energy.gpu_j, max(run.makespan_s, steps[-1].end_s if steps else 0.0)
    if not joules or not steps or length_s <= 0:
        return None
    busy_s = fsum(step.duration_s for step in steps)
    clock = fsum(step.duration_s * (step.clock_mhz or otherwise_mhz) for step in steps) / busy_s
    return PowerReading(joules / length_s, length_s, clock, tuple((step, 1.0) for step in steps))


def _work(
    step: Step, before: Sequence[float], attended: Sequence[float], prompts: dict[str, int | None], first: bool
) -> Work:
    pairs, completed = 0.0, 0
    for (call, new, _), context in zip(step.prefill, before, strict=True):
        pairs += new * (context + new / 2)
        completed += context + new >= (prompts.get(call) or 0)
    return Work(
        prefills=len(step.prefill),
        prefill_tokens=sum(new for _, new, _ in step.prefill),
        prefill_pairs=pairs,
        prefill_context=round(sum(before)),
        decodes=len(step.decode),
        decode_context=round(sum(attended) / step.steps),
        prompts_completed=completed,
        first=first,
    )


def _clocks(readings: Sequence[Reading]) -> Callable[[float, float], float | None]:
    """The clock over a stretch of time, from the readings that it touches."""
    known = [r for r in readings if r.sm_clock_mhz is not None]
    ends = [r.end_s for r in known]

    def clock_of(start_s: float, end_s: float) -> float | None:
        total = weight = 0.0
        for reading in known[bisect_right(ends, start_s) :]:
            shared_s = min(end_s, reading.end_s) - max(start_s, reading.start_s)
            if shared_s <= 0:
                break
            total += shared_s * (reading.sm_clock_mhz or 0.0)
            weight += shared_s
        return total / weight if weight else None

    return clock_of


def _signature(span: Span) -> tuple[int, ...]:
    def size(value: float) -> int:
        return round(log(1 + value) / BIN)

    found: list[int] = [span.steps[0].work.first, span.ends, span.steps[0].seats or 0]
    found.append(span.steps[0].custom_all_reduce)
    for step in span.steps:
        work = step.work
        found += [work.prefills, work.decodes, size(work.prefill_tokens), size(work.prefill_pairs)]
        found += [size(work.decode_context), round((step.clock_mhz or 0) / CLOCK_BIN_MHZ)]
    return tuple(found)
