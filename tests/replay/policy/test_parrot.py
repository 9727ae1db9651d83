"""Parrot's objectives and groups, by hand."""

from __future__ import annotations

from dataclasses import replace

from tests.replay.policy.test_policies import call, view

from rejoule.replay.policy.future import recorded_outlooks
from rejoule.replay.policy.interface import Capacity, Flight, Pending, View
from rejoule.replay.policy.registry import open_policy
from rejoule.traces.testing import made_call, made_tool, made_workflow


def sent(seen: View, **options: int) -> list[str]:
    return [send.call for send in open_policy("parrot", options).decide(seen).send]


def flying(*calls: Pending) -> dict[str, Flight]:
    return {c.id: Flight(c, 0.0, 0) for c in calls}


def of_group(name: str, workflow: str = "w", **outlook: float) -> Pending:
    return call(name, workflow, due_s=0.0, turn=1, **{"grouped": 1.0, "path_calls": 2.0, **outlook})


def alone(name: str, prefix: str = "", **outlook: float) -> Pending:
    given = {"grouped": 0.0, "path_calls": 1.0, **outlook}
    return replace(call(name, f"workflow of {name}", due_s=0.0, turn=1, **given), prefix=prefix)


def test_a_group_is_what_is_waited_for_beside_others() -> None:
    """Branches that are joined are groups, chains and all; what all of them follow from, or what joins, is not."""
    names = ("plan", "a", "b", "c", "join", "end")
    calls = [made_call("w", name, 10 * i, 10 * i + 10) for i, name in enumerate(names)]
    tool = made_tool("w", "look", 30, 32)
    edges = [("plan", "a"), ("plan", "b"), ("b", "c"), ("c", "look"), ("a", "join"), ("look", "join"), ("join", "end")]
    workflow = made_workflow([*calls, tool], {"barrier": edges}, name="w")
    found = recorded_outlooks(workflow, "barrier", time_scale=1.0, output_scale=1.0)
    assert [name for name in names if found[f"w/{name}"].grouped] == ["a", "b", "c"]


def test_waiting_for_a_chain_twice_makes_no_group() -> None:
    """A call that waits for the two before it, of which one follows the other, joins nothing."""
    calls = [made_call("w", name, 10 * i, 10 * i + 10) for i, name in enumerate("abc")]
    workflow = made_workflow(calls, {"barrier": [("a", "b"), ("a", "c"), ("b", "c")]}, name="w")
    found = recorded_outlooks(workflow, "barrier", time_scale=1.0, output_scale=1.0)
    assert not any(outlook.grouped for outlook in found.values())


def test_few_calls_for_latency_run_beside_each_other() -> None:
    """Four at a time, those first that have most calls after them."""
    pending = tuple(alone(f"c{i}", prefix=str(i), path_calls=float(i)) for i in range(1, 7))
    assert sent(view(pending)) == ["c6", "c5", "c4", "c3"]
    assert sent(view(pending, in_flight=flying(alone("x"), alone("y"), alone("z")))) == ["c6"]
    assert sent(view(pending), latency_calls=1) == ["c6"]


def test_a_group_runs_whole_and_needs_one_place() -> None:
    """Six calls of a group leave in one step; three beside a call for latency, which suffers four in all."""
    group = tuple(of_group(f"g{i}") for i in range(6))
    assert len(sent(view(group))) == 6
    assert len(sent(view(group, in_flight=flying(*(of_group(f"r{i}", "other") for i in range(50)))))) == 6
    assert sent(view(group, in_flight=flying(alone("x")))) == ["g0", "g1", "g2"]
    assert sent(view((alone("x"),), in_flight=flying(*group[:4]))) == []
    assert sent(view((alone("x"),), in_flight=flying(*group[:3]))) == ["x"]


def test_calls_of_one_prefix_leave_with_the_first_of_them() -> None:
    """A call of which others have the prefix takes them along, before those that have more calls after them."""
    pending = (alone("first", "p", path_calls=3.0), alone("second", "q", path_calls=2.0), alone("third", "p"))
    assert sent(view(pending)) == ["first", "third", "second"]
    # A group counts as one where nothing runs, and beside others each of its calls.
    assert sent(view(pending), latency_calls=1) == ["first", "third"]
    assert sent(view(pending, in_flight=flying(alone("x"))), latency_calls=2) == ["first"]


def test_no_more_leave_than_there_are_seats() -> None:
    """A group too large for the engine is cut to what it seats; without knowing of seats all of it leaves."""
    group = tuple(of_group(f"g{i}") for i in range(6))
    assert len(sent(view(group, capacity=Capacity(seats=4)))) == 4
    assert len(sent(view(group))) == 6
