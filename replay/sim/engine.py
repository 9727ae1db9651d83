"""The step engine: requests in, timed tokens and joules out, in virtual time.

``advance`` costs as much as there are events, not tokens: while the same requests decode, steps are taken many at once.
Over such a stretch the time and the energy of a step grow in a straight line between those of its first and its last
step, evaluated with the models, so that k steps cost ``k t + g k (k - 1) / 2`` wherever the stretch is interrupted.

Under asynchronous scheduling a step is chosen when the one before it begins, so a request that arrives meanwhile waits
for the end of that one too. Its tokens reach the client when their step ends, as they do without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Literal, NamedTuple

from rejoule.replay.sim.kv_cache import BlockPool
from rejoule.replay.sim.latency import LatencyModel, Work
from rejoule.replay.sim.power import Operation, PowerModel
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.scheduler import Job, Limits, Plan, Policy, Scheduler, SimRequest
from rejoule.traces.errors import RejouleError

STRETCH = 512
"""The most steps over which costs are interpolated."""
MOST = 10**8
"""No GPU has room for more sequences, tokens in a step, or KV blocks."""


@dataclass(frozen=True)
class EngineConfig:
    """An engine's knobs; ``None`` takes the profile's default. ``seed`` is only for what the model says."""

    profile: Profile
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    num_gpu_blocks: int | None = None
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    async_scheduling: bool = True
    scheduling_policy: Policy = "fcfs"
    power_cap_w: float | None = None
    sm_clock_mhz: int | None = None
    seed: int = 0


class Event(NamedTuple):
    """Something that the sender of a request learns. ``cached_tokens`` are those of the prompt found in the cache."""

    kind: Literal["first_token", "finished"]
    id: str
    at_s: float
    cached_tokens: int
    preemptions: int


class StepRecord(NamedTuple):
    """One step, or ``steps`` equal ones, or an idle gap. Records follow one another without a gap.

    ``prefill`` has (request, new tokens, cached tokens) for each prompt chunk, ``prefill_context`` the tokens that lay
    in the KV cache before it; each of ``decode_ids`` got one token a step, and ``context_tokens`` is the sum of their
    contexts at the first step, each the sum of its ``decode_bases`` and ``tick``. ``cap_bound`` says that the power cap
    lowered the clock, ``attainable`` whether that sufficed.
    """

    start_s: float
    end_s: float
    steps: int
    energy_j: float
    sm_clock_mhz: float
    cap_bound: bool
    attainable: bool
    idle: bool
    prefill: tuple[tuple[str, int, int], ...]
    decode_ids: tuple[str, ...]
    context_tokens: int
    preempted: tuple[str, ...]
    step_s: float
    growth_s: float
    prefill_context: tuple[int, ...] = ()
    decode_bases: tuple[int, ...] = ()
    tick: int = 0

    @property
    def decode_context(self) -> tuple[int, ...]:
        """Tokens that each of ``decode_ids`` found in the KV cache, summed over the steps."""
        steps, tick = self.steps, self.tick
        if steps == 1:
            return tuple([base + tick for base in self.decode_bases])
        first = steps * tick + steps * (steps - 1) // 2
        return tuple([steps * base + first for base in self.decode_bases])

    @property
    def decode(self) -> tuple[tuple[str, int], ...]:
        """(request, tokens) of everyone who decoded."""
        return tuple((name, self.steps) for name in self.decode_ids)

    def token_time_s(self, index: int) -> float:
        """When step ``index`` (from 0) ended, and with it each decoding request's token ``index``."""
        if index == self.steps - 1:
            return self.end_s
        done = index + 1
        return self.start_s + done * self.step_s + self.growth_s * done * index / 2


class _Stretch(NamedTuple):
    """The line along which equal decode steps cost time and energy, from one tick to another."""

    version: int
    start_s: float
    first_tick: int
    last_tick: int
    step_s: float
    growth_s: float
    step_j: float
    growth_j: float
    sm_clock_mhz: float
    cap_bound: bool
    attainable: bool

    def end_s(self, steps: int) -> float:
        return self.start_s + steps * self.step_s + self.growth_s * steps * (steps - 1) / 2

    def energy_j(self, steps: int) -> float:
        return steps * self.step_j + self.growth_j * steps * (steps - 1) / 2

    def steps_until(self, at_s: float) -> int:
        """The smallest number of steps after which it is ``at_s`` or later."""
        half = self.growth_s / 2
        linear = self.step_s - half
        span = at_s - self.start_s
        if half > 0:
            guess = (-linear + math.sqrt(max(0.0, linear * linear + 4 * half * span))) / (2 * half)
        else:
            guess = span / self.step_s
        steps = max(0, math.ceil(guess))
        while steps and self.end_s(steps - 1) >= at_s:
            steps -= 1
        while self.end_s(steps) < at_s:
            steps += 1
        return steps


class StepEngine:
    """One GPU that serves one model.

    Everything here is a function of the calls made: it reads no clock and draws no random number. ``steps`` has what it
    did; without ``keep_steps`` it stays empty, and a run of any length needs no more memory than the requests in it.
    """

    def __init__(self, config: EngineConfig, keep_steps: bool = True) -> None:
        profile = config.profile
        serving = profile.serving
        seats = serving.max_num_seqs if config.max_num_seqs is None else config.max_num_seqs
        budget = config.max_num_batched_tokens
        if budget is None:
            budget = max(serving.max_num_batched_tokens, seats)
        blocks = serving.num_gpu_blocks if config.num_gpu_blocks is None else config.num_gpu_blocks
        for name, value, least in (
            ("max_num_seqs", seats, 1),
            ("max_num_batched_tokens", budget, 1),
            ("num_gpu_blocks", blocks, 2),
        ):
            if not least <= value <= MOST:
                raise RejouleError(f"{name} is {value}", f"take {least} to {MOST}")
        if budget < seats:
            raise RejouleError(
                f"max_num_batched_tokens ({budget}) is below max_num_seqs ({seats})", "raise the one or lower the other"
            )
        if config.scheduling_policy not in ("fcfs", "priority"):
            raise RejouleError(f"no scheduling policy {config.scheduling_policy!r}", "take fcfs or priority")
        if config.long_prefill_token_threshold < 0:
            raise RejouleError("long_prefill_token_threshold is negative", "take 0 for none, or a number of tokens")
        self.config = config
        self.now_s = 0.0
        self.energy_j = 0.0
        self.idle_j = 0.0
        self.busy_s = 0.0
        self.bound_s = 0.0
        """How long the power cap held the clock down."""
        self.attainable = True
        self.steps: list[StepRecord] = []
        self.pool = BlockPool(blocks, serving.block_size, config.enable_prefix_caching)
        self.limits = Limits(
            seats,
            budget,
            config.scheduling_policy,
            config.long_prefill_token_threshold,
            config.enable_chunked_prefill,
            config.async_scheduling,
        )
        self.scheduler = Scheduler(self.pool, self.limits)
        self._latency = LatencyModel(profile, seats)
        self.power = PowerModel(profile, self._latency, config.power_cap_w, config.sm_clock_mhz)
        self._jobs: dict[str, Job] = {}
        self._arriving: list[tuple[float, int, Job]] = []
        self._count = 0
        self._stretch: _Stretch | None = None
        self._members: tuple[int, tuple[str, ...], tuple[int, ...]] = (-1, (), ())
        self._keeps = keep_steps
        self._seen_s = 0.0
        self._first = True
        self._preempted: tuple[str, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether requests are running or waiting now."""
        return self.scheduler.busy

    def add(self, request: SimRequest, at_s: float | None = None) -> None:
        """Let ``request`` be sent at ``at_s``, or now.

        The API server takes its time over it; then it is seen when the scheduler next chooses a step.
        """
        if request.id in self._jobs:
            raise ValueError(f"request {request.id!r} is in the engine already")
        if request.output_tokens < 1 or not len(request.prompt_ids):
            raise ValueError(f"request {request.id!r} needs a prompt and at least one output token")
        if request.output_ids is not None and len(request.output_ids) != request.output_tokens:
            raise ValueError(f"request {request.id!r} has {len(request.output_ids)} output ids, not output_tokens")
        prompt = len(request.prompt_ids)
        if (
            not self.limits.enable_chunked_prefill
            and prompt + request.output_tokens > self.limits.max_num_batched_tokens
        ):
            raise RejouleError(
                f"request {request.id!r} of {prompt} prompt tokens needs more than one step",
                "raise max_num_batched_tokens, or leave chunked prefill on",
            )
        tokens = prompt + request.output_tokens
        if -(-tokens // self.pool.block_size) > self.pool.capacity:
            raise RejouleError(
                f"request {request.id!r} of {tokens} tokens does not fit into {self.pool.capacity} KV blocks",
                "scale its input or output down, or take a profile with more KV blocks",
            )
        timing = self.config.profile.timing
        sent_s = self.now_s if at_s is None else at_s
        job = Job(request, sent_s + (timing.api_per_request_s + timing.api_per_token_s * prompt), self._count)
        self._jobs[request.id] = job
        heappush(self._arriving, (job.arrival_s, self._count, job))
        self._count += 1

    def abort(self, request_id: str) -> bool:
        """Drop a request; whether it was there. Blocks it computed stay cached."""
        job = self._jobs.pop(request_id, None)
        if job is None:
            return False
        for entry in self._arriving:
            if entry[2] is job:
                self._arriving.remove(entry)
                heapify(self._arriving)
                return True
        self.scheduler.abort(job)
        return True

    def advance(self, until_s: float | None = None) -> list[Event]:
        """Run until a request finishes, until no step may begin before ``until_s``, or until there is nothing to do.

        A step that began before ``until_s`` is completed, so ``now_s`` may be later. Idle time passes up to the next
        arrival or ``until_s``.
        """
        events: list[Event] = []
        while until_s is None or self.now_s < until_s:
            if not self.scheduler.busy:
                self._seen_s = self.now_s
            self._receive()
            if self.scheduler.busy:
                if self._step(events, until_s):
                    break
            else:
                upto = self._arriving[0][0] if self._arriving else until_s
                if upto is None:
                    break
                self._rest(upto if until_s is None else min(upto, until_s))
        return events

    @property
    def next_event_s(self) -> float | None:
        """When ``advance`` would next report something if nothing else arrived; ``None`` if never.

        Exact while requests only decode; otherwise the end of the next step, which may report nothing.
        """
        if not self.scheduler.busy:
            return self._arriving[0][0] if self._arriving else None
        stretch = self._stretch
        if stretch is None or not self._continues(stretch):
            return math.nextafter(self.now_s, math.inf)
        return stretch.end_s(stretch.last_tick - stretch.first_tick)

    def produced(self, request_id: str) -> int:
        """How many tokens a request in the engine has answered by ``now_s``."""
        return self.scheduler.tokens_produced(self._jobs[request_id])

    def reset_prefix_cache(self) -> bool:
        """Forget all cached blocks; refused while requests run."""
        return self.pool.reset()

    def _receive(self) -> None:
        while self._arriving and self._arriving[0][0] <= self._seen_s:
            self.scheduler.add(heappop(self._arriving)[2])

    def _continues(self, stretch: _Stretch) -> bool:
        return stretch.version == self.scheduler.version and self.scheduler.tick < stretch.last_tick

    def _step(self, events: list[Event], until_s: float | None) -> bool:
        """Take one step, or many equal ones; whether a request finished."""
        scheduler = self.scheduler
        if self._stretch is not None and not self._continues(self._stretch):
            self._stretch = None
        plan = scheduler.plan()
        begun_s = self.now_s
        steps = 1
        if not plan.chunks and not plan.decodes:
            # Everyone was preempted, or waits for what is complete to leave: there is nothing to compute.
            self._first = True
            self._preempted += tuple(job.request.id for job in plan.preempted)
        elif scheduler.changing or self._settling(plan):
            self._stretch = None
            self._single(plan)
        else:
            stretch = self._stretch
            if stretch is None:
                stretch = self._stretch = self._new_stretch(plan, scheduler.steady_steps(STRETCH))
            done = scheduler.tick - stretch.first_tick
            last = stretch.last_tick - stretch.first_tick
            if until_s is not None and stretch.end_s(last) > until_s:
                last = min(last, max(done + 1, stretch.steps_until(until_s)))
            if self._arriving and stretch.end_s(last) > self._arriving[0][0]:
                seen = stretch.steps_until(self._arriving[0][0]) + self.limits.async_scheduling
                last = min(last, max(done + 1, seen))
            steps = last - done
            scheduler.extend(steps)
            if self.limits.async_scheduling and steps > 1:
                begun_s = stretch.end_s(last - 1)
            self._many(stretch, done, steps, plan)
        self._seen_s = begun_s if self.limits.async_scheduling and self.now_s > begun_s else self.now_s
        firsts, finished = scheduler.commit(steps)
        events.extend(self._event("first_token", job) for job in firsts)
        events.extend(self._event("finished", job) for job in finished)
        for job in finished:
            del self._jobs[job.request.id]
        if scheduler.emptying and not (self._arriving and self._arriving[0][0] <= self._seen_s):
            # The step that was chosen meanwhile has nothing in it, and takes no time.
            scheduler.plan()
            scheduler.commit(1)
            self._first = True
        return bool(finished)

    def _event(self, kind: Literal["first_token", "finished"], job: Job) -> Event:
        return Event(kind, job.request.id, self.now_s, job.cached or 0, job.preemptions)

    def _decoding(self, plan: Plan) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The requests that decode in this step, and their bases."""
        scheduler = self.scheduler
        if self._members[0] != scheduler.version:
            self._members = scheduler.version, tuple(scheduler.decoding), tuple(scheduler.bases.values())
        _, ids, bases = self._members
        if plan.skipped:
            rest = scheduler.bases.copy()
            for job in plan.skipped:
                del rest[job.request.id]
            ids, bases = tuple(rest), tuple(rest.values())
        return ids, bases

    def _single(self, plan: Plan) -> None:
        tokens = context = completed = 0
        pairs = 0.0
        for job, new, before, _ in plan.chunks:
            tokens += new
            context += before
            pairs += new * (before + new / 2)
            completed += before + new == job.prompt_tokens + job.produced
        work = Work(len(plan.chunks), tokens, pairs, context, plan.decodes, plan.decode_context, completed, self._first)
        self._first = False
        operation = self.power.run(self._latency.demand(work), self.now_s)
        start, self.now_s = self.now_s, self.now_s + operation.step_s
        energy_j = operation.power_w * operation.step_s
        self._account(energy_j, operation.step_s, operation.cap_bound, operation.attainable)
        if self._keeps:
            ids, bases = self._decoding(plan)
            self.steps.append(
                StepRecord(
                    start_s=start,
                    end_s=self.now_s,
                    steps=1,
                    energy_j=energy_j,
                    sm_clock_mhz=operation.clock_mhz,
                    cap_bound=operation.cap_bound,
                    attainable=operation.attainable,
                    idle=False,
                    prefill=tuple([(c.job.request.id, c.tokens, c.cached) for c in plan.chunks]),
                    decode_ids=ids,
                    context_tokens=plan.decode_context,
                    preempted=(*self._preempted, *(job.request.id for job in plan.preempted)),
                    step_s=operation.step_s,
                    growth_s=0.0,
                    prefill_context=tuple([c.context for c in plan.chunks]),
                    decode_bases=bases,
                    tick=self.scheduler.tick,
                )
            )
        self._preempted = ()

    def _many(self, stretch: _Stretch, done: int, steps: int, plan: Plan) -> None:
        start, self.now_s = self.now_s, stretch.end_s(done + steps)
        energy_j = stretch.energy_j(done + steps) - stretch.energy_j(done)
        self._account(energy_j, self.now_s - start, stretch.cap_bound, stretch.attainable)
        if self._keeps:
            ids, bases = self._decoding(plan)
            self.steps.append(
                StepRecord(
                    start_s=start,
                    end_s=self.now_s,
                    steps=steps,
                    energy_j=energy_j,
                    sm_clock_mhz=stretch.sm_clock_mhz,
                    cap_bound=stretch.cap_bound,
                    attainable=stretch.attainable,
                    idle=False,
                    prefill=(),
                    decode_ids=ids,
                    context_tokens=plan.decode_context,
                    preempted=self._preempted,
                    step_s=stretch.step_s + stretch.growth_s * done,
                    growth_s=stretch.growth_s,
                    decode_bases=bases,
                    tick=self.scheduler.tick,
                )
            )
        self._preempted = ()

    def _rest(self, until_s: float) -> None:
        start, self.now_s, self._first = self.now_s, until_s, True
        self.power.hold(self.power.idle_w, start)
        energy_j = self.power.idle_w * (until_s - start)
        self.idle_j += energy_j
        self.energy_j += energy_j
        if self._keeps:
            self.steps.append(
                StepRecord(
                    start_s=start,
                    end_s=until_s,
                    steps=0,
                    energy_j=energy_j,
                    sm_clock_mhz=self.power.idle_clock_mhz,
                    cap_bound=False,
                    attainable=True,
                    idle=True,
                    prefill=(),
                    decode_ids=(),
                    context_tokens=0,
                    preempted=(),
                    step_s=0.0,
                    growth_s=0.0,
                )
            )

    def _account(self, energy_j: float, seconds: float, cap_bound: bool, attainable: bool) -> None:
        self.energy_j += energy_j
        self.busy_s += seconds
        self.bound_s += seconds * cap_bound
        self.attainable &= attainable

    def _new_stretch(self, plan: Plan, steps: int) -> _Stretch:
        first = self._decode(plan.decodes, plan.decode_context)
        last = self._decode(plan.decodes, plan.decode_context + plan.decodes * (steps - 1)) if steps > 1 else first
        self.power.hold(first.power_w, self.now_s)
        first_j, last_j = first.step_s * first.power_w, last.step_s * last.power_w
        tick = self.scheduler.tick
        return _Stretch(
            self.scheduler.version,
            self.now_s,
            tick,
            tick + steps,
            first.step_s,
            max(0.0, last.step_s - first.step_s) / max(1, steps - 1),
            first_j,
            (last_j - first_j) / max(1, steps - 1),
            (first.clock_mhz + last.clock_mhz) / 2,
            first.cap_bound or last.cap_bound,
            first.attainable and last.attainable,
        )

    def _settling(self, plan: Plan) -> bool:
        """Whether the power has yet to become what it is going to be for these decoding requests."""
        if self._stretch is not None:
            return False
        work = Work(decodes=plan.decodes, decode_context=plan.decode_context)
        return self.power.settling(self._latency.demand(work), self.now_s)

    def _decode(self, decodes: int, context: int) -> Operation:
        return self.power.operate(self._latency.demand(Work(decodes=decodes, decode_context=context)))
