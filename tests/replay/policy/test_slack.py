"""Slack for joules: what is held, for how long, and what that is worth on the simulated engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.replay.policy.test_policies import call, view

from rejoule.replay.engines.open import open_engine
from rejoule.replay.policy.interface import Done, Flight, Pending
from rejoule.replay.policy.registry import open_policy
from rejoule.replay.replay import replay
from rejoule.traces.model import Call, ToolCall, Workflow
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.testing import made_call, made_tool, made_trace, made_workflow, random_trace

SEEN = Done(replace(call("seen", "v", call_s=1.0), arrival_s=0.0), 0.0, 1.0, 10)
"""A call of another workflow, which is in a tool now: the engine is as fast as the recording's."""


def waiting(name: str, workflow: str = "w", **outlook: float) -> Pending:
    whole = {"call_s": 0.1, "path_s": 0.2, "workflow_s": 2.0, "slack_s": 0.0, "last": 0.0, **outlook}
    found = call(name, workflow, due_s=1.0, turn=1, **whole)
    return replace(found, outlook=replace(found.outlook, basis="recorded"))


def decided(
    *pending: Pending,
    now_s: float = 1.0,
    flights: Sequence[Flight] = (),
    done: Sequence[Done] = (SEEN,),
    knows: str = "oracle",
    **options: float,
) -> tuple[list[str], float | None]:
    extra = tuple(f.call for f in flights)
    seen = view((*pending, *extra), now_s=now_s, done=done, in_flight={f.call.id: f for f in flights})
    decision = open_policy("slack", options).decide(replace(seen, pending=pending, knows=knows))  # type: ignore[arg-type]
    again_s = decision.ask_again_s
    return [send.call for send in decision.send], None if again_s is None else round(again_s, 9)


def test_a_call_is_held_as_long_as_it_has_slack() -> None:
    """One with half a second of slack waits so long for company; one without goes at once."""
    assert decided(waiting("free", slack_s=0.5), waiting("late")) == (
        ["free", "late"],
        None,
    )  # it rides with the late one
    assert decided(waiting("free", slack_s=0.5)) == ([], 1.5)
    assert decided(waiting("free", slack_s=0.5), now_s=1.5) == (["free"], None)
    assert decided(waiting("late")) == (["late"], None)


def test_a_call_rides_if_one_in_flight_has_half_of_its_length_to_go() -> None:
    """Of 0.1 s, 0.05 must be left of the other, which was sent some time ago."""
    held = waiting("free", slack_s=0.5)
    for sent_s, rides in ((0.93, True), (0.97, True), (0.94, True), (0.85, False)):
        flight = Flight(waiting("other", "x", call_s=0.12), sent_s, 0)
        assert (decided(held, flights=[flight])[0] == ["free"]) == rides
    assert decided(held, flights=[Flight(waiting("other", "x", call_s=0.12), 0.85, 0)], ride=0.0) == ([], 1.5)


def test_nothing_is_held_before_the_engine_was_seen_to_answer() -> None:
    """How fast it is beside the recording's is not known then."""
    assert decided(waiting("free", slack_s=0.5), done=[]) == (["free"], None)


def test_a_faster_engine_leaves_less_slack() -> None:
    """Twice as fast as recorded, of half a second a quarter."""
    assert decided(waiting("free", slack_s=0.5), done=[replace(SEEN, end_s=0.5)]) == ([], 1.25)
    assert decided(waiting("free", slack_s=0.5), done=[replace(SEEN, end_s=2.0)]) == ([], 1.5)


def test_what_a_workflow_was_held_is_spent() -> None:
    """A second call with half a second of slack has what the first one left of it."""
    policy = open_policy("slack", {})
    first = replace(view((waiting("a", slack_s=0.5),), now_s=1.3, done=[SEEN]), knows="oracle")
    assert policy.decide(replace(first, now_s=1.0)).ask_again_s == 1.5
    rider = replace(first, in_flight={"x": Flight(waiting("x", "x", call_s=9.0), 1.0, 0)})
    assert [s.call for s in policy.decide(rider).send] == ["a"]
    second = replace(view((waiting("b", slack_s=0.5),), done=[SEEN]), knows="oracle")
    assert policy.decide(second).ask_again_s == pytest.approx(1.2)


def test_a_deadline_lets_a_call_wait_for_another_workflow() -> None:
    """As long as itself, if a call is expected by then, and if the rest of its way fits in after what is there."""
    soon = replace(SEEN, call=replace(SEEN.call, outlook=replace(SEEN.call.outlook, after_s=0.05, last=0.0)))
    assert decided(waiting("a"), done=[soon]) == (["a"], None)
    assert decided(waiting("a"), done=[soon], deadline_s=10.0) == ([], 1.1)
    assert decided(waiting("a"), done=[soon], deadline_factor=5.0) == ([], 1.1)
    # 0.2 of its way and 0.1 for itself before 1.35: until 1.05.
    assert decided(waiting("a"), done=[soon], deadline_s=1.35) == ([], 1.05)
    assert decided(waiting("a"), done=[replace(soon, end_s=2.0)], deadline_s=1.6) == (["a"], None)
    late = replace(soon, call=replace(soon.call, outlook=replace(soon.call.outlook, after_s=0.15)))
    assert decided(waiting("a"), done=[late], deadline_s=10.0) == (["a"], None)
    assert decided(waiting("a"), done=[late], deadline_s=10.0, worth=2.0) == ([], 1.2)
    short = Flight(waiting("other", "x", call_s=0.12, after_s=0.06), 0.91, 0)
    assert decided(waiting("a"), flights=[short], deadline_s=10.0) == ([], 1.1)
    last = replace(short, call=waiting("other", "x", call_s=0.12, after_s=0.06, last=1.0))
    assert decided(waiting("a"), flights=[last], deadline_s=10.0) == (["a"], None)


def test_of_siblings_one_is_never_held_on_a_mean() -> None:
    """Means of slack do not tell which of two branches is the long one: the one with less goes, and takes along."""
    a, b = waiting("a", slack_s=0.3), waiting("b", slack_s=0.5)
    assert decided(a, b, knows="learned") == (["a", "b"], None)
    assert decided(a, b, knows="oracle") == ([], 1.3)


def simulated(flows: Sequence[Workflow], policy: str | None, options: Mapping[str, Any] = {}) -> Run:
    knobs = Configuration(arrivals="recorded", policy=policy, policy_knows="oracle" if policy else "learned")
    knobs = replace(knobs, policy_options=options)
    return asyncio.run(replay(made_trace(list(flows)), PlannedRun("r", "t", knobs, 0), "", open_engine))


def alone(workflow: Workflow) -> Workflow:
    """As it would have been recorded from the simulated engine, with nobody else on it."""
    run = simulated([workflow], None)
    came_ns = workflow.arrival_ns
    times = {c.id: (c.sent_s, c.end_s) for c in run.calls} | {t.id: (t.start_s, t.end_s) for t in run.tools}

    def timed(vertex: Call | ToolCall) -> Any:
        start_ns, end_ns = (came_ns + round(1e9 * at_s) for at_s in times[vertex.id])
        if isinstance(vertex, Call):
            return replace(vertex, submit_ns=start_ns, end_ns=end_ns, first_token_ns=None)
        return replace(vertex, start_ns=start_ns, end_ns=end_ns)

    return replace(
        workflow,
        calls=tuple(map(timed, workflow.calls)),
        tool_calls=tuple(map(timed, workflow.tool_calls)),
        end_ns=came_ns + round(1e9 * run.makespan_s),
    )


def times_s(run: Run) -> dict[str, float]:
    return {w.id: w.end_s - w.arrival_s for w in run.workflows}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.floats(1.2, 4.0))
def test_no_deadline_is_missed_that_first_come_first_served_keeps(seed: int, factor: float) -> None:
    """Random small graphs whose times are the engine's own, and deadlines that leave a fifth of them or more."""
    flows = [alone(w) for w in random_trace(seed, workflows=3).workflows if w.calls]
    assume(flows)
    plain, held = simulated(flows, "fcfs"), simulated(flows, "slack", {"deadline_factor": factor})
    alone_s = {w.id: (w.end_ns - w.arrival_ns) / 1e9 for w in flows}
    for name, plain_s in times_s(plain).items():
        deadline_s = factor * alone_s[name]
        assert plain_s > deadline_s or times_s(held)[name] <= deadline_s


def test_a_call_that_rides_saves_its_steps() -> None:
    """A long call that can wait for a tool of another branch runs with what follows that: fewer joules, no delay."""
    vertices: list[Call | ToolCall] = [
        made_call("w", "plan", 0, 50, output_tokens=10),
        made_call("w", "side", 50, 700, output_tokens=100),
        made_tool("w", "look", 50, 2050),
        made_call("w", "main", 2050, 3000, output_tokens=150),
        made_call("w", "join", 3000, 3100, output_tokens=10),
    ]
    edges = [("plan", "side"), ("plan", "look"), ("look", "main"), ("side", "join"), ("main", "join")]
    flow = alone(made_workflow(vertices, {"barrier": edges}, name="w"))
    plain, held = simulated([flow], "fcfs"), simulated([flow], "slack")
    assert held.makespan_s == pytest.approx(plain.makespan_s, rel=0.02)
    assert held.energy.gpu_j and plain.energy.gpu_j
    assert held.energy.gpu_j < 0.9 * plain.energy.gpu_j
