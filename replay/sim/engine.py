"""The step engine: requests in, timed tokens and joules out, in virtual time.

``advance`` costs as much as there are events, not tokens: while the same requests decode, steps are taken many at once,
and time and energy grow in a straight line between those of the first and the last step, evaluated with the models.

Under asynchronous scheduling a step is chosen and launched while the one before it is *in flight* (see ``pipeline``): a
request that arrives meanwhile waits for the next choice, and the output of the step in flight waits for the launch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from rejoule.replay.sim.api import ApiServer
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.jobs import Job, SimRequest
from rejoule.replay.sim.latency import Demand, LatencyModel, Work
from rejoule.replay.sim.power import Operation, PowerModel
from rejoule.replay.sim.records import Event, StepRecord, idle_record
from rejoule.replay.sim.scheduler import Plan, Scheduler
from rejoule.replay.sim.stretch import Stretch, interpolated
from rejoule.traces.errors import RejouleError

STRETCH = 512
"""The most steps over which costs are interpolated."""


class _Flight(NamedTuple):
    """A step whose output is not out yet, or equal ones of which all but the last are over."""

    record: StepRecord
    """Until its output is out, its ``end_s`` is when the GPU is done."""
    skipped: Sequence[Job]
    firsts: Sequence[Job] = ()
    finished: Sequence[Job] = ()

    @property
    def computed_s(self) -> float:
        return self.record.end_s


class StepEngine:
    """One GPU that serves one model. ``now_s`` is when the next step can be chosen.

    Everything here is a function of the calls made: it reads no clock and draws no random number. ``steps`` has what it
    did; without ``keep_steps`` it stays empty, and a run of any length needs no more memory than the requests in it.
    """

    def __init__(self, config: EngineConfig, keep_steps: bool = True) -> None:
        self.config = config
        self.now_s = 0.0
        self.energy_j = 0.0
        self.idle_j = 0.0
        self.busy_s = 0.0
        self.bound_s = 0.0
        """How long the power cap held the clock down."""
        self.attainable = True
        self.steps: list[StepRecord] = []
        self.limits = config.limits()
        self.pool = config.pool()
        self.scheduler = Scheduler(self.pool, self.limits)
        self._latency = LatencyModel(config.profile, self.limits.max_num_seqs)
        self.power = PowerModel(config.profile, self._latency, config.power_cap_w, config.sm_clock_mhz)
        self._jobs: dict[str, Job] = {}
        self._api = ApiServer(config.profile.timing.api_crowd_s)
        self._count = 0
        self._stretch: Stretch | None = None
        self._members: tuple[int, tuple[str, ...], tuple[int, ...]] = (-1, (), ())
        self._keeps = keep_steps
        self._flight: _Flight | None = None
        self._computed_s = 0.0
        self._first = True
        self._preempted: tuple[str, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether requests are running or waiting now."""
        return self.scheduler.busy or self._flight is not None

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
            held = self.pool.capacity * self.pool.block_size
            raise RejouleError(
                f"request {request.id!r} of {tokens:,} tokens does not fit into the KV blocks, which hold {held:,}",
                "scale its input or output down, or take a profile with more KV blocks",
            )
        timing = self.config.profile.timing
        sent_s = self.now_s if at_s is None else at_s
        job = Job(request, sent_s + (timing.api_per_request_s + timing.api_per_token_s * prompt), self._count)
        self._jobs[request.id] = job
        self._api.send(job, job.arrival_s)
        self._count += 1

    def abort(self, request_id: str) -> bool:
        """Drop a request; whether it was there. Blocks it computed stay cached."""
        job = self._jobs.pop(request_id, None)
        if job is None:
            return False
        if self._api.drop(job):
            return True
        self.scheduler.abort(job)
        return True

    def advance(self, until_s: float | None = None) -> list[Event]:
        """Run until a request finishes, until no step can be chosen before ``until_s``, or until nothing is to do.

        What was chosen before ``until_s`` is launched, so ``now_s`` may be later. Idle time passes up to the next
        arrival or ``until_s``.
        """
        events: list[Event] = []
        while until_s is None or self.now_s < until_s:
            for job in self._api.take(self.now_s):
                self.scheduler.add(job)
            if self.scheduler.busy:
                if self._choose(events, until_s):
                    break
            elif self._flight is not None:
                self._first = True
                if self._land(self._flight, self._flight.computed_s, events):
                    break
            else:
                times = [at_s for at_s in (self._api.out_s, until_s) if at_s is not None]
                if not times:
                    break
                self._rest(min(times))
        return events

    @property
    def next_event_s(self) -> float | None:
        """When ``advance`` would next report something if nothing else arrived; ``None`` if never.

        Exact while requests only decode; otherwise the earliest end of the step in flight, which may report nothing.
        """
        flight, stretch = self._flight, self._stretch
        soon_s = math.nextafter(self.now_s, math.inf)
        if flight is None:
            return soon_s if self.scheduler.busy else self._api.out_s
        if stretch is None or flight.firsts or flight.finished or not self._continues(stretch):
            return max(flight.computed_s, soon_s)
        return stretch.end_s(stretch.last_tick - stretch.first_tick)

    def produced(self, request_id: str) -> int:
        """How many tokens a request in the engine has answered by ``now_s``."""
        job, flight = self._jobs[request_id], self._flight
        tokens = job.produced_at(self.scheduler.decoding.tick)
        if flight is None or job in flight.skipped:
            return tokens
        return tokens - (job.decoding or job in flight.finished)

    def reset_prefix_cache(self) -> bool:
        """Forget all cached blocks; refused while requests run."""
        return self.pool.reset()

    def _continues(self, stretch: Stretch) -> bool:
        decoding = self.scheduler.decoding
        return stretch.version == decoding.version and decoding.tick < stretch.last_tick

    def _choose(self, events: list[Event], until_s: float | None) -> bool:
        """Choose and launch a step, or many equal ones; whether a request finished with the step before it."""
        scheduler = self.scheduler
        if self._stretch is not None and not self._continues(self._stretch):
            self._stretch = None
        plan = scheduler.plan()
        steps = 1
        if not plan.chunks and not plan.decodes:
            # Everyone was preempted, or waits for what is complete to leave: there is nothing to compute.
            self._first = True
            self._preempted += tuple(job.request.id for job in plan.preempted)
            scheduler.commit(1)
            return self._flight is not None and self._land(self._flight, self._flight.computed_s, events)
        if scheduler.changing or self._settling(plan):
            self._stretch = None
            done = self._single(plan, events)
        else:
            done, steps = self._along(plan, until_s, events)
        firsts, finished = scheduler.commit(steps)
        flight = self._flight
        assert flight is not None
        if firsts or finished:
            flight = self._flight = flight._replace(firsts=firsts, finished=finished)
        return done if self.limits.async_scheduling else self._land(flight, flight.computed_s, events)

    def _fly(self, plan: Plan, record: StepRecord) -> None:
        """What was launched is in flight; its ``record`` lacks what ``plan`` knows, and in its joules those of rest.

        While the GPU waits for a launch, it draws those for what is launched.
        """
        resting_j = self.power.idle_w * (record.end_s - self._computed_s)
        record = record._replace(energy_j=record.energy_j + resting_j)
        self._computed_s = record.end_s
        if self._keeps:
            ids, bases = self._decoding(plan)
            record = record._replace(
                prefill=tuple([(c.job.request.id, c.tokens, c.cached) for c in plan.chunks]),
                prefill_context=tuple([c.context for c in plan.chunks]),
                decode_ids=ids,
                decode_bases=bases,
                context_tokens=plan.decode_context,
                preempted=(*self._preempted, *(job.request.id for job in plan.preempted)),
                tick=self.scheduler.decoding.tick,
            )
        self._preempted = ()
        self._flight = _Flight(record, plan.skipped)

    def _land(self, flight: _Flight, out_s: float, events: list[Event]) -> bool:
        """The output of the step in flight is out at ``out_s``; whether a request finished with it."""
        self._flight, self.now_s = None, out_s
        record = flight.record
        seconds = out_s - record.start_s
        record = record._replace(end_s=out_s)
        self.energy_j += record.energy_j
        self.busy_s += seconds
        self.bound_s += seconds * record.cap_bound
        self.attainable &= record.attainable
        if self._keeps:
            self.steps.append(record)
        events += [self._event("first_token", job) for job in flight.firsts if job.request.id in self._jobs]
        done = False
        for job in flight.finished:
            if self._jobs.pop(job.request.id, None) is not None:
                events.append(self._event("finished", job))
                done = True
        return done

    def _launch(self, demand: Demand, events: list[Event]) -> tuple[float, float, float, bool]:
        """Launch a step from now on, and land the one in flight.

        Returns when the step's record starts, when the GPU can begin, when all is launched, and if a request finished.
        """
        self._first = False
        chosen_s = self.now_s + demand.first_s
        launched_s = chosen_s + demand.host_s
        flight = self._flight
        if flight is None:
            start_s = self.now_s
            if self.limits.async_scheduling:
                self.now_s = launched_s
            return start_s, chosen_s, launched_s, False
        begins_s = max(flight.computed_s, chosen_s)
        if begins_s > flight.computed_s:
            self.power.hold(self.power.idle_w, flight.computed_s)
        done = self._land(flight, max(flight.computed_s, launched_s), events)
        return self.now_s, begins_s, launched_s, done

    def _along(self, plan: Plan, until_s: float | None, events: list[Event]) -> tuple[bool, int]:
        """Launch as many equal steps as nothing interrupts: whether a request finished, and how many they are."""
        ahead = int(self.limits.async_scheduling)
        work = Work(decodes=plan.decodes, decode_context=plan.decode_context)
        start_s, _, _, done = self._launch(self._latency.demand(work), events)
        stretch = self._stretch
        if stretch is None:
            stretch = self._stretch = self._new_stretch(plan, start_s, self.scheduler.steady_steps(STRETCH))
        over = self.scheduler.decoding.tick - stretch.first_tick
        last = stretch.last_tick - stretch.first_tick
        if done:
            # Whoever learns of it may send something that the next choice sees.
            last = over + 1
        for at_s in (until_s, self._api.out_s):
            if at_s is not None and stretch.end_s(last) > at_s:
                last = min(last, max(over + 1, stretch.steps_until(at_s) + ahead))
        steps = last - over
        self.scheduler.extend(steps)
        computed_s = stretch.end_s(last)
        energy_j = stretch.energy_j(last) - stretch.energy_j(over)
        self._fly(
            plan,
            StepRecord(
                start_s=start_s,
                end_s=computed_s,
                steps=steps,
                energy_j=energy_j - self.power.idle_w * (computed_s - stretch.end_s(over)),
                sm_clock_mhz=stretch.sm_clock_mhz,
                cap_bound=stretch.cap_bound,
                attainable=stretch.attainable,
                step_s=stretch.step_s + stretch.growth_s * over,
                growth_s=stretch.growth_s,
            ),
        )
        if ahead and steps > 1:
            self.now_s = stretch.end_s(last - 1)
        return done, steps

    def _event(self, kind: Literal["first_token", "finished"], job: Job) -> Event:
        return Event(kind, job.request.id, self.now_s, job.cached or 0, job.preemptions)

    def _decoding(self, plan: Plan) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The requests that decode in this step, and their bases."""
        decoding = self.scheduler.decoding
        if self._members[0] != decoding.version:
            self._members = decoding.version, tuple(decoding.jobs), tuple(decoding.bases.values())
        _, ids, bases = self._members
        if plan.skipped:
            rest = decoding.bases.copy()
            for job in plan.skipped:
                del rest[job.request.id]
            ids, bases = tuple(rest), tuple(rest.values())
        return ids, bases

    def _single(self, plan: Plan, events: list[Event]) -> bool:
        """Launch one step; whether a request finished with the one before it."""
        tokens = context = completed = 0
        pairs = 0.0
        for job, new, before, _ in plan.chunks:
            tokens += new
            context += before
            pairs += new * (before + new / 2)
            completed += before + new == job.prompt_tokens + job.produced
        work = Work(len(plan.chunks), tokens, pairs, context, plan.decodes, plan.decode_context, completed, self._first)
        demand = self._latency.demand(work)
        start_s, begins_s, launched_s, done = self._launch(demand, events)
        remaining_s = launched_s - begins_s + self.config.profile.timing.per_step_s
        operation = self.power.run(demand._replace(host_s=remaining_s), begins_s)
        self._fly(
            plan,
            StepRecord(
                start_s=start_s,
                end_s=begins_s + operation.step_s,
                steps=1,
                energy_j=(operation.power_w - self.power.idle_w) * operation.step_s,
                sm_clock_mhz=operation.clock_mhz,
                cap_bound=operation.cap_bound,
                attainable=operation.attainable,
                step_s=operation.step_s,
                growth_s=0.0,
            ),
        )
        return done

    def _rest(self, until_s: float) -> None:
        start, self.now_s, self._computed_s, self._first = self.now_s, until_s, until_s, True
        self.power.hold(self.power.idle_w, start)
        energy_j = self.power.idle_w * (until_s - start)
        self.idle_j += energy_j
        self.energy_j += energy_j
        if self._keeps:
            self.steps.append(idle_record(start, until_s, energy_j, self.power.idle_clock_mhz))

    def _new_stretch(self, plan: Plan, start_s: float, steps: int) -> Stretch:
        first = self._decode(plan.decodes, plan.decode_context)
        last = self._decode(plan.decodes, plan.decode_context + plan.decodes * (steps - 1)) if steps > 1 else first
        self.power.hold(first.power_w, self.now_s)
        decoding = self.scheduler.decoding
        return interpolated(decoding.version, start_s, decoding.tick, steps, first, last)

    def _settling(self, plan: Plan) -> bool:
        """Whether the power has yet to become what it is going to be for these decoding requests."""
        if self._stretch is not None:
            return False
        work = Work(decodes=plan.decodes, decode_context=plan.decode_context)
        return self.power.settling(self._latency.demand(work), self.now_s)

    def _decode(self, decodes: int, context: int) -> Operation:
        return self.power.operate(self._latency.demand(Work(decodes=decodes, decode_context=context)))
