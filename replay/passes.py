"""The passes of a run: each goes through the whole trace once, and starts when the one before has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rejoule.replay.arrivals import arrival_times
from rejoule.replay.driver import drive
from rejoule.replay.engine import Engine
from rejoule.replay.schedule import Schedule, Waited
from rejoule.traces import Trace
from rejoule.traces.loops import of_pass
from rejoule.traces.model import EdgeSet
from rejoule.traces.run import CallResult, Configuration


@dataclass(frozen=True, slots=True)
class Driven:
    """What the schedule did and the engine answered. Times are seconds on the engine's clock."""

    results: Sequence[CallResult]
    arrival_s: Mapping[str, float]
    """Of each workflow."""
    waited: Sequence[Waited]
    skipped: frozenset[str]
    """Vertices that were never begun, and the failed calls that they depend on."""


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
) -> Driven:
    """Goes through ``trace`` once, as pass ``number`` from 1, beginning now. Every pass has the same arrivals."""
    workflows = [of_pass(w, number) for w in trace.workflows]
    arrivals_s = arrival_times(
        workflows,
        configuration.arrivals,
        time_scale=configuration.time_scale,
        seed=f"{configuration.seed}:{trial}",
    )
    begin_s = engine.now_s() if number > 1 else 0.0
    schedule = Schedule(
        workflows,
        [begin_s + at_s for at_s in arrivals_s],
        edge_set=edges_of(configuration),
        time_scale=configuration.time_scale,
        output_scale=configuration.output_scale,
        concurrency=configuration.concurrency,
    )
    results = await drive(schedule, engine, on_answer)
    return Driven(results, schedule.arrival_s, schedule.waited, frozenset(schedule.skipped))


def joined(passes: Sequence[Driven]) -> Driven:
    """The passes of a run as one."""
    return Driven(
        results=[r for one in passes for r in one.results],
        arrival_s={name: at_s for one in passes for name, at_s in one.arrival_s.items()},
        waited=[w for one in passes for w in one.waited],
        skipped=frozenset().union(*(one.skipped for one in passes)),
    )
