"""The step engine: requests in, timed tokens and joules out, in virtual time.

``advance`` costs as much as there are events, not tokens: while the same requests decode, steps are taken many at once,
and time and energy grow in a straight line between those of the first and the last step, evaluated with the models.

Under asynchronous scheduling a step is chosen and launched while the one before it is *in flight* (see ``pipeline``): a
request that arrives meanwhile waits for the next choice, and the output of the step in flight waits for the launch.
"""

from __future__ import annotations

import math
from typing import Literal

from rejoule.replay.sim.admission import check_request
from rejoule.replay.sim.api import Answers, Arrivals
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.costs import StepCosts
from rejoule.replay.sim.jobs import Job, SimRequest
from rejoule.replay.sim.pipeline import Flight, Pipeline
from rejoule.replay.sim.power import PowerModel
from rejoule.replay.sim.records import Event, StepRecord
from rejoule.replay.sim.scheduler import Plan, Scheduler
from rejoule.replay.sim.step_log import StepLog
from rejoule.replay.sim.stretch import Stretch

STRETCH = 512
"""The most steps over which costs are interpolated."""


class StepEngine:
    """One GPU that serves one model. ``log`` has what it did, step by step unless ``keep_steps`` is off.

    Everything here is a function of the calls made: it reads no clock and draws no random number.
    """

    def __init__(self, config: EngineConfig, keep_steps: bool = True) -> None:
        self.config = config
        self.limits = config.limits()
        self.pool = config.pool()
        self.scheduler = Scheduler(self.pool, self.limits)
        self.latency = latency = config.latency()
        self.power = PowerModel(config.profile, latency, config.power_cap_w, config.sm_clock_mhz)
        self.log = StepLog(keep_steps)
        self._costs = StepCosts(latency, self.power)
        self._workers = config.profile.tensor_parallel > 1
        self._pipeline = Pipeline(self.power, self.limits.async_scheduling, self._workers)
        self._late = False
        """Whether the step before may have taken so long to launch that workers begin late with the next one."""
        self._arrivals = Arrivals(config.profile.timing.api_crowd_s)
        self._answers = Answers(config.profile.timing)
        self._jobs: dict[str, Job] = {}
        self._count = 0
        self._stretch: Stretch | None = None

    def use_power(self, power: PowerModel) -> None:
        """Draw and clock as ``power`` says from the next choice on: a limit has changed."""
        self.power = self._costs.power = self._pipeline.power = power

    @property
    def now_s(self) -> float:
        """When the next step can be chosen."""
        return self._pipeline.now_s

    @property
    def told_s(self) -> float:
        """When senders have all that was put out by ``now_s``."""
        return max(self.now_s, self._answers.told_s)

    @property
    def busy(self) -> bool:
        """Whether requests are running or waiting now."""
        return self.scheduler.busy or self._pipeline.flight is not None

    def add(self, request: SimRequest, at_s: float | None = None) -> None:
        """Let ``request`` be sent at ``at_s``, or now.

        The API server takes its time over it; then it is seen when the scheduler next chooses a step.
        """
        if request.id in self._jobs:
            raise ValueError(f"request {request.id!r} is in the engine already")
        check_request(request, self.limits, self.pool)
        timing = self.config.profile.timing
        sent_s = self._pipeline.now_s if at_s is None else at_s
        alone_s = timing.api_per_request_s + timing.api_per_token_s * len(request.prompt_ids)
        job = Job(request, sent_s + alone_s, self._count)
        self._jobs[request.id] = job
        self._arrivals.send(job, sent_s, job.arrival_s)
        self._count += 1

    def abort(self, request_id: str) -> bool:
        """Drop a request; whether it was there. Blocks it computed stay cached."""
        job = self._jobs.pop(request_id, None)
        if job is None:
            return False
        if self._arrivals.drop(job):
            return True
        self.scheduler.abort(job)
        return True

    def advance(self, until_s: float | None = None) -> list[Event]:
        """Run until a sender learns that a request finished or has come as far as it asked, until no step can be chosen
        before ``until_s``, or until nothing is to do. An event's time is when its sender learns of it, which may be
        later than ``now_s``: the API server takes its time over answers, too.

        What was chosen before ``until_s`` is launched, so ``now_s`` may be later. Idle time passes up to the next
        arrival or ``until_s``.
        """
        events: list[Event] = []
        pipeline = self._pipeline
        while until_s is None or pipeline.now_s < until_s:
            for job in self._arrivals.take(pipeline.now_s):
                self.scheduler.add(job)
            if self.scheduler.busy:
                if self._choose(events, until_s):
                    break
            elif pipeline.flight is not None:
                pipeline.first = True
                if self._tell(pipeline.land(), events):
                    break
            else:
                times = [at_s for at_s in (self._arrivals.out_s, until_s) if at_s is not None]
                if not times:
                    break
                self.log.add(pipeline.rest(min(times)))
        return events

    @property
    def next_event_s(self) -> float | None:
        """When ``advance`` would next report something if nothing else arrived; ``None`` if never.

        Exact while requests only decode; otherwise the earliest end of the step in flight, which may report nothing.
        """
        flight, stretch = self._pipeline.flight, self._stretch
        soon_s = math.nextafter(self.now_s, math.inf)
        if flight is None:
            return soon_s if self.scheduler.busy else self._arrivals.out_s
        if stretch is None or flight.firsts or flight.finished or flight.told or not self._continues(stretch):
            return max(flight.computed_s, soon_s)
        return stretch.end_s(stretch.last_tick - stretch.first_tick)

    def produced(self, request_id: str) -> int:
        """How many tokens a request in the engine has answered by ``now_s``."""
        job, flight = self._jobs[request_id], self._pipeline.flight
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
        """Choose and launch a step, or many equal ones; whether somebody may act on the one before it."""
        scheduler, pipeline = self.scheduler, self._pipeline
        if self._stretch is not None and not self._continues(self._stretch):
            self._stretch = None
        plan = scheduler.plan()
        steps = 1
        if not plan.chunks and not plan.decodes:
            # Everyone was preempted, or waits for what is complete to leave: there is nothing to compute.
            pipeline.first = True
            self.log.note_preempted(plan)
            scheduler.commit(1)
            return pipeline.flight is not None and self._tell(pipeline.land(), events)
        alone = scheduler.changing or self._late
        self._late = self._workers and bool(plan.chunks)
        if alone or (self._stretch is None and self._costs.settling(plan, pipeline.now_s)):
            self._stretch = None
            done = self._single(plan, events)
        else:
            done, steps = self._along(plan, until_s, events)
        firsts, finished = scheduler.commit(steps)
        told = scheduler.decoding.tell() if scheduler.decoding.telling else ()
        flight = pipeline.flight
        assert flight is not None
        if told or firsts or finished:
            pipeline.flight = flight._replace(firsts=firsts, finished=finished, told=told)
        return done if self.limits.async_scheduling else self._tell(pipeline.land(), events)

    def _fly(self, plan: Plan, record: StepRecord, begins_s: float) -> None:
        record = self.log.detailed(record, plan, self.scheduler.decoding)
        early_j = self._pipeline.fly(record, plan.skipped, begins_s, plan.decodes)
        if early_j:
            self.log.add_joules(early_j)

    def _tell(self, flight: Flight | None, events: list[Event]) -> bool:
        """The output of what was in flight is out; whether somebody who learns of it may act."""
        if flight is None:
            return False
        self.log.add(flight.record)
        firsts = flight.firsts
        outputs = flight.decodes + len(firsts)
        told_s = self._answers.put(flight.record.end_s, outputs, sum(job.prompt_tokens for job in firsts))
        events += [_event("first_token", job, told_s) for job in firsts if job.request.id in self._jobs]
        done = False
        for job, tokens in flight.told:
            if job.request.id in self._jobs:
                events.append(_event("emitted", job, told_s)._replace(tokens=tokens))
                done = True
        for job in flight.finished:
            if self._jobs.pop(job.request.id, None) is not None:
                events.append(_event("finished", job, told_s))
                done = True
        return done

    def _along(self, plan: Plan, until_s: float | None, events: list[Event]) -> tuple[bool, int]:
        """Launch as many equal steps as nothing interrupts: whether somebody may act, and how many they are."""
        ahead = int(self.limits.async_scheduling)
        scheduler, pipeline = self.scheduler, self._pipeline
        demand = self._costs.decode_demand(plan)
        start_s, _, _, landed = pipeline.launch(demand)
        done = self._tell(landed, events)
        stretch = self._stretch
        if stretch is None:
            steps = scheduler.steady_steps(STRETCH)
            stretch = self._costs.stretch(plan, scheduler.decoding, start_s, pipeline.now_s, steps)
            self._stretch = stretch
        over = scheduler.decoding.tick - stretch.first_tick
        last = stretch.last_tick - stretch.first_tick
        if done:
            # Whoever learns of it may send something that the next choice sees.
            last = over + 1
        for at_s in (until_s, self._arrivals.out_s):
            if at_s is not None and stretch.end_s(last) > at_s:
                last = min(last, max(over + 1, stretch.steps_until(at_s) + ahead))
        steps = last - over
        pipeline.repeat(steps - 1, demand.host_s)
        scheduler.extend(steps)
        self._fly(plan, stretch.record(start_s, over, last, self.power.idle_w), stretch.end_s(over))
        if ahead and steps > 1:
            pipeline.now_s = stretch.end_s(last - 1)
        return done, steps

    def _single(self, plan: Plan, events: list[Event]) -> bool:
        """Launch one step; whether somebody may act on the one before it."""
        demand = self._costs.demand(plan, self._pipeline.first)
        whole = self.latency.is_whole(len(plan.chunks), plan.decodes)
        start_s, begins_s, launched_s, landed = self._pipeline.launch(demand, whole)
        done = self._tell(landed, events)
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
            begins_s,
        )
        return done


def _event(kind: Literal["first_token", "emitted", "finished"], job: Job, at_s: float) -> Event:
    return Event(kind, job.request.id, at_s, job.cached or 0, job.preemptions)
