"""The passes of a run: each goes through the whole trace once, and starts when the one before has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rejoule.replay.arrivals import arrival_times, think_s
from rejoule.replay.driver import drive
from rejoule.replay.engine import Engine
from rejoule.replay.places import Places, Waves
from rejoule.replay.policy.gate import Chosen, Gate, summed
from rejoule.replay.policy.interface import Capacity, Knows
from rejoule.replay.policy.knowledge import Knowledge, knowledge
from rejoule.replay.policy.registry import open_policy
from rejoule.replay.schedule import Schedule, Waited
from rejoule.traces import Trace
from rejoule.traces.loops import of_pass
from rejoule.traces.model import EdgeSet, Workflow
from rejoule.traces.run import ORACLE, STATIC, CallResult, Configuration


@dataclass(frozen=True, slots=True)
class Driven:
    """What the schedule did and the engine answered. Times are seconds on the engine's clock."""

    results: Sequence[CallResult]
    arrival_s: Mapping[str, float]
    """Of each workflow."""
    waited: Sequence[Waited]
    skipped: frozenset[str]
    """Vertices that were never begun, and the failed calls that they depend on."""
    chosen: Chosen | None = None
    """What a policy did; ``None`` without one."""


def edges_of(configuration: Configuration) -> EdgeSet:
    """The edges that a configuration's replay follows."""
    return "trigger" if configuration.edge_set == "trigger" else "barrier"


async def drive_pass(
    trace: Trace,
    configuration: Configuration,
    trial: int,
    number: int,
    engine: Engine,
    on_answer: Callable[[CallResult], None] = lambda _: None,
    known: Knowledge | None = None,
) -> Driven:
    """Goes through ``trace`` once, as pass ``number`` from 1, beginning now. Every pass has the same arrivals.

    ``known`` is what the configuration's policy knows, of `known_of`, which is asked if it is not given.
    """
    workflows = [of_pass(w, number) for w in trace.workflows]
    arrivals_s = arrival_times(
        workflows,
        configuration.arrivals,
        time_scale=configuration.time_scale,
        seed=f"{configuration.seed}:{trial}",
    )
    begin_s = engine.now_s() if number > 1 else 0.0
    arrivals_s = [begin_s + at_s for at_s in arrivals_s]
    known = known_of(trace, configuration) if known is None else known
    gate = None if known is None else gate_of(configuration, known, workflows, arrivals_s, engine.capacity)
    schedule = Schedule(
        workflows,
        arrivals_s,
        edge_set=edges_of(configuration),
        think_s=think_s(configuration.arrivals),
        time_scale=configuration.time_scale,
        output_scale=configuration.output_scale,
        places=places_of(configuration),
        gate=gate,
    )
    results = await drive(schedule, engine, on_answer)
    chosen = None if gate is None else gate.chosen
    return Driven(results, schedule.arrival_s, schedule.waited, frozenset(schedule.skipped), chosen)


def places_of(configuration: Configuration) -> Places:
    """How many calls a configuration lets be in flight."""
    if configuration.batching == STATIC:
        size = configuration.concurrency or configuration.max_num_seqs
        assert size is not None
        return Waves(size)
    return Places(configuration.concurrency)


def known_of(trace: Trace, configuration: Configuration) -> Knowledge | None:
    """What a configuration's policy knows of a trace, in any pass; ``None`` without a policy.

    Working it out takes a while, in which no clock of a run may go.
    """
    c = configuration
    if c.policy is None:
        return None
    knows: Knows = "oracle" if c.policy_knows == ORACLE else "learned"
    return knowledge(trace.workflows, knows, edges_of(c), time_scale=c.time_scale, output_scale=c.output_scale)


def gate_of(
    configuration: Configuration,
    known: Knowledge,
    workflows: Sequence[Workflow],
    arrivals_s: Sequence[float],
    capacity: Capacity,
) -> Gate:
    """The gate of a configuration's policy, as of a new pass."""
    c = configuration
    assert c.policy is not None
    return Gate(
        open_policy(c.policy, c.policy_options),
        c.policy,
        known,
        workflows,
        {w.id: at_s for w, at_s in zip(workflows, arrivals_s, strict=True)},
        input_scale=c.input_scale,
        output_scale=c.output_scale,
        capacity=capacity,
    )


def joined(passes: Sequence[Driven]) -> Driven:
    """The passes of a run as one."""
    return Driven(
        results=[r for one in passes for r in one.results],
        arrival_s={name: at_s for one in passes for name, at_s in one.arrival_s.items()},
        waited=[w for one in passes for w in one.waited],
        skipped=frozenset().union(*(one.skipped for one in passes)),
        chosen=summed(one.chosen for one in passes if one.chosen is not None),
    )
