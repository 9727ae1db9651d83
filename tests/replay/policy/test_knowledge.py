"""What a policy may know of what is to come: what was recorded, or what others of its kind did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.replay.policy.made import chain, gated

from rejoule.replay.policy.future import recorded_outlooks
from rejoule.replay.policy.interface import Capacity, Outlook
from rejoule.replay.policy.knowledge import NOTHING, VISITS, Seen, knowledge
from rejoule.replay.policy.registry import names
from rejoule.traces.dag import critical_path, graph, length_s, slack
from rejoule.traces.model import Call, EdgeSet, ToolCall, Workflow
from rejoule.traces.testing import MS, made_call, made_tool, made_workflow, random_trace


def outlooks(
    workflow: Workflow, edge_set: EdgeSet = "barrier", time: float = 1.0, out: float = 1.0
) -> dict[str, Outlook]:
    return recorded_outlooks(workflow, edge_set, time_scale=time, output_scale=out)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["barrier", "trigger"]))
def test_slack_and_paths_are_those_of_the_graph(seed: int, edge_set: EdgeSet) -> None:
    """An outlook's seconds agree with what `rejoule inspect` finds of the same workflow."""
    for workflow in random_trace(seed).workflows:
        dag = graph(workflow, edge_set)
        free, whole_s = slack(dag), length_s(dag, critical_path(dag))
        for name, outlook in outlooks(workflow, edge_set).items():
            assert outlook.slack_s == pytest.approx(free[name], abs=1e-9)
            assert outlook.workflow_s == pytest.approx(whole_s)
            assert outlook.path_s <= whole_s + 1e-9
            assert 0 <= outlook.sibling_slack_s <= whole_s + 1e-9


def fan() -> Workflow:
    """plan → (a, a tool and then b) → join; b waits 20 ms for its tool."""
    vertices: list[Call | ToolCall] = [
        made_call("w", "plan", 0, 10, output_tokens=10),
        made_call("w", "a", 10, 60, output_tokens=50),
        made_tool("w", "look", 10, 30),
        made_call("w", "b", 30, 40, output_tokens=5),
        made_call("w", "join", 60, 70, output_tokens=20),
    ]
    edges = [("plan", "a"), ("plan", "look"), ("look", "b"), ("a", "join"), ("b", "join")]
    return made_workflow(vertices, {"barrier": edges}, name="w")


def rounded(outlook: Outlook) -> Outlook:
    short = {name: round(getattr(outlook, name), 9) for name in ("after_s", "path_s", "workflow_s")}
    return replace(outlook, **short)


def test_an_outlook_by_hand() -> None:
    """Tokens, seconds, calls, slack and fans of a fan with a tool in it; scales go in where a replay has them."""
    found = outlooks(fan())
    assert rounded(found["w/plan"]) == Outlook(
        output_tokens=10, call_s=0.01, after_s=0, path_tokens=80, path_s=0.07, path_calls=3, rest_tokens=85,
        rest_calls=4, workflow_s=0.07, slack_s=0, sibling_slack_s=0, fan_out=2, joined=1, grouped=0, last=0,
        basis="recorded",
    )  # fmt: skip
    b = found["w/b"]
    assert (b.path_tokens, b.path_calls, b.rest_tokens, b.rest_calls) == (25, 2, 25, 2)
    assert (b.slack_s, b.sibling_slack_s, b.joined) == pytest.approx((0.02, 0.02, 2))
    assert (found["w/a"].after_s, b.after_s) == pytest.approx((0, 0.02))
    assert (found["w/a"].grouped, b.grouped, found["w/join"].grouped) == (1, 1, 0)
    assert (found["w/join"].last, found["w/join"].fan_out) == (1, 0)
    scaled = outlooks(fan(), time=3.0, out=2.0)
    assert scaled["w/plan"].path_tokens == 160
    assert scaled["w/b"].slack_s == pytest.approx(0.1 - 0.06 - 0.02)


def test_what_is_learned_is_the_mean_of_the_others() -> None:
    """A call's own workflow is not in it, however often the others came to the node."""
    flows = [chain("w0", 1000, 1000), chain("w1", 10, 20), chain("w2", 30, 40)]
    known = knowledge(flows, "learned", "barrier", time_scale=1.0, output_scale=1.0)
    found = known.outlook(Seen("w0/n0", "w0", "made-up", "n0", 1))
    assert (found.output_tokens, found.path_tokens, found.path_calls) == (20, 50, 2)
    assert known.outlook(Seen("w1/n0", "w1", "made-up", "n0", 1)).output_tokens == 515


def loop(name: str, rounds: int) -> Workflow:
    """One node, visited again and again."""
    calls = [made_call(name, f"n.{i}", 10 * i, 10 * i + 10, output_tokens=10) for i in range(rounds)]
    edges = [(f"n.{i}", f"n.{i + 1}") for i in range(rounds - 1)]
    return made_workflow(calls, {"barrier": edges}, name=name)


def test_rounds_of_a_loop_are_told_apart() -> None:
    """The third visit has less before it than the first; beyond what others did, their last visit stands in."""
    flows = [loop("w0", 1), loop("w1", 3), loop("w2", 5)]
    known = knowledge(flows, "learned", "barrier", time_scale=1.0, output_scale=1.0)
    left = [known.outlook(Seen("", "w0", "made-up", "n", visit)).path_calls for visit in (1, 2, 3, 4, 5, 6, 99)]
    assert left == [4, 3, 2, 2, 1, 1, 1]
    many = [loop("w0", 1), loop("w1", VISITS + 4)]
    known = knowledge(many, "learned", "barrier", time_scale=1.0, output_scale=1.0)
    assert known.outlook(Seen("", "w0", "made-up", "n", VISITS)).path_calls == 3  # the mean of 5 to 1
    assert known.outlook(Seen("", "w0", "made-up", "n", VISITS - 1)).path_calls == 6


def test_what_nobody_knows_is_guessed_and_says_so() -> None:
    """A node of its own takes its graph's means, a graph of its own the trace's, and a lone workflow nothing."""
    flows = [chain("w0", 10), chain("w1", 20)]
    known = knowledge(flows, "learned", "barrier", time_scale=1.0, output_scale=1.0)
    assert known.outlook(Seen("", "w0", "made-up", "other", 1)).basis == "graph"
    assert known.outlook(Seen("", "w0", "other", "n0", 1)).basis == "trace"
    assert known.outlook(Seen("", "w0", "other", "n0", 1)).output_tokens == 20
    alone = knowledge(flows[:1], "learned", "barrier", time_scale=1.0, output_scale=1.0)
    assert alone.outlook(Seen("", "w0", "made-up", "n0", 1)) == NOTHING


def otherwise(workflow: Workflow) -> Workflow:
    """The same calls due at first, and another future: longer answers to them, and of what waits for them a third."""
    waits = workflow.predecessors()
    kept = [c for i, c in enumerate(workflow.calls) if not waits[c.id] or i % 3 == 0]

    def other(call: Call) -> Call:
        ids = (call.token_ids or ()) * 7 + (1, 2, 3)
        longer = replace(call, token_ids=ids, output_tokens=len(ids), end_ns=call.end_ns + 999 * MS)
        return replace(longer, node=f"new {call.node}") if waits[call.id] else longer

    names = {c.id for c in kept}
    edges = tuple(e for e in workflow.edges if {e.source, e.target} <= names)
    return replace(workflow, calls=tuple(map(other, kept)), tool_calls=(), edges=edges)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(names()), st.integers(0, 3))
def test_a_learned_decision_does_not_depend_on_what_is_to_come(seed: int, policy: str, which: int) -> None:
    """With another recorded future of a workflow, the same calls go out in the same order with the same priorities."""
    flows = random_trace(seed, workflows=4).workflows
    changed = [otherwise(w) if i == which else w for i, w in enumerate(flows)]
    first = {c.id for c in flows[which].calls if not flows[which].predecessors()[c.id]}

    # Alone: through the places that it leaves them, what others learn of it would come back to it.
    arrivals_s = [0.0 if i == which else 9.0 for i in range(len(flows))]

    def decided(workflows: Sequence[Workflow]) -> list[tuple[str, int | None]]:
        room = Capacity(None, 4000)
        schedule = gated(workflows, policy, "learned", arrivals_s=arrivals_s, concurrency=None, capacity=room)
        return [(d.call.id, d.priority) for d in schedule.due(0.1) if d.call.id in first]

    assert decided(flows) == decided(changed)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_a_learned_outlook_is_equal_whatever_the_workflow_itself_does(seed: int) -> None:
    """Not even rounding tells of it."""
    flows = list(random_trace(seed, workflows=4).workflows)
    first = flows[0].calls[0]
    seen = Seen(first.id, flows[0].id, flows[0].graph, first.node, 1)
    known = knowledge(flows, "learned", "barrier", time_scale=1.0, output_scale=1.0)
    other = knowledge([otherwise(flows[0]), *flows[1:]], "learned", "barrier", time_scale=1.0, output_scale=1.0)
    assert known.outlook(seen) == other.outlook(seen)


def test_an_oracle_knows_what_was_recorded() -> None:
    """The bound: a call's own length, and its own way to the end."""
    flows = [chain("w0", 10, 20), chain("w1", 30, 40)]
    known = knowledge(flows, "oracle", "barrier", time_scale=1.0, output_scale=1.0)
    found = known.outlook(Seen("w0/n0", "w0", "made-up", "n0", 1))
    assert (found.output_tokens, found.path_tokens, found.basis) == (10, 30, "recorded")
