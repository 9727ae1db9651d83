"""What a policy may do, and what becomes of one that makes no sense."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.replay.policy.made import chain, gated, play
from tests.replay.test_schedule import Server, scheduled

from rejoule.replay.places import Places, Waves
from rejoule.replay.policy.interface import Capacity, Decision, Knows, Pending, Policy, Send, View
from rejoule.replay.policy.registry import names
from rejoule.traces import RejouleError
from rejoule.traces.model import Call, EdgeSet
from rejoule.traces.testing import made_call, made_tool, made_workflow, random_trace


@settings(deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(names()),
    st.sampled_from(["learned", "oracle"]),
    st.sampled_from(["barrier", "trigger"]),
    st.sampled_from([None, 1, 2, 5]),
    st.booleans(),
    st.integers(1, 2000),
)
def test_every_policy_sends_every_call_once_and_after_what_it_waits_for(
    seed: int, policy: str, knows: Knows, edge_set: EdgeSet, concurrency: int | None, waves: bool, kv: int
) -> None:
    """Whatever the policy, its knowledge and the limits: nothing is lost, and nothing goes out too soon."""
    trace = random_trace(seed, workflows=4)
    places = Waves(concurrency) if waves and concurrency else Places(concurrency)
    arrivals_s = [w.arrival_ns / 1e9 for w in trace.workflows]
    room = Capacity(concurrency, kv)
    schedule = gated(
        trace.workflows, policy, knows, arrivals_s=arrivals_s, edge_set=edge_set, places=places, capacity=room
    )
    server = Server()
    server.play(schedule)
    assert sorted(server.sent_s) == sorted(c.id for c in trace.calls)
    assert concurrency is None or server.most_in_flight <= concurrency
    for workflow in trace.workflows:
        for name, sources in workflow.predecessors(edge_set).items():
            for source in sources:
                if isinstance(workflow.vertices[name], Call):
                    assert server.sent_s[name] >= schedule.finished_s[source]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.sampled_from([None, 1, 3]))
def test_workflows_first_come_first_served_is_what_happens_without_a_policy(seed: int, limit: int | None) -> None:
    """The gate itself costs no time and changes nothing."""
    trace = random_trace(seed)
    plain, asked = Server(), Server()
    plain.play(scheduled(trace, concurrency=limit))
    arrivals_s = [w.arrival_ns / 1e9 for w in trace.workflows]
    asked.play(gated(trace.workflows, "workflow-fcfs", arrivals_s=arrivals_s, concurrency=limit))
    assert asked.sent_s == plain.sent_s


def test_a_wave_goes_out_when_all_of_the_one_before_has_ended() -> None:
    """Static batching waits for the longest of each wave."""
    flows = [chain(f"w{i}", tokens) for i, tokens in enumerate((10, 40, 20, 30, 10))]
    schedule = gated(flows, "fcfs", places=Waves(2))
    sent, ends = play(schedule)
    assert sent == [f"w{i}/n0" for i in range(5)]
    assert [round(ends[name], 3) for name in sent] == [0.01, 0.04, 0.06, 0.07, 0.08]


class Group(Policy):
    """Holds until three calls of one prefix are there."""

    def decide(self, view: View) -> Decision:
        if len(view.pending) < 3 and view.now_s < 1.0:
            return Decision(ask_again_s=1.0)
        return Decision(tuple(Send(c.id) for c in view.pending))


def test_calls_that_are_held_go_out_together_or_when_the_policy_said() -> None:
    """A group leaves in one step as soon as it is whole, and an incomplete one at the time that was named."""
    flows = [chain(f"w{i}", 10) for i in range(3)]
    whole = gated(flows, Group(), arrivals_s=[0.0, 0.1, 0.2], concurrency=None)
    assert whole.due(0.0) == whole.due(0.1) == []
    assert [(d.call.id, d.due_s, d.ready_s) for d in whole.due(0.2)] == [
        ("w0/n0", 0.0, 0.2), ("w1/n0", 0.1, 0.2), ("w2/n0", 0.2, 0.2),
    ]  # fmt: skip
    part = gated(flows[:1], Group(), concurrency=None)
    assert part.due(0.0) == [] and part.next_due_s == 1.0
    assert [d.ready_s for d in part.due(1.004)] == [1.0]


def saying(answer: Callable[[View], Any]) -> Policy:
    class Said(Policy):
        def decide(self, view: View) -> Decision:
            said: Decision = answer(view)
            return said

    return Said()


WRONG: dict[str, Any] = {"half": 1.5, "nothing": None}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda v: None, "NoneType"),
        (lambda v: Decision((v.pending[0],)), "it would send"),
        (lambda v: Decision((Send("nobody"),)), "'nobody', which is not pending"),
        (lambda v: Decision((Send("w0/n0"), Send("w0/n0"))), "twice"),
        (lambda v: Decision((Send("w0/n0", WRONG["half"]),)), "priority for w0/n0 is 1.5"),
        (lambda v: Decision((Send("w0/n0", True),)), "priority for w0/n0 is True"),
        (lambda v: Decision((Send("w0/n0", 2**31),)), "2147483648"),
        (lambda v: Decision(ask_again_s=v.now_s), "asked again at 0.0"),
        (lambda v: Decision(ask_again_s=float("nan")), "asked again at nan"),
        (lambda v: Decision(), "holds 1 calls while nothing is in flight, and names no time"),
        (lambda v: Decision(ask_again_s=1e9), "would for over 3600 s"),
        (lambda v: sys.exit(3), "SystemExit in test_gate.py, line"),
        (lambda v: 1 / 0, "ZeroDivisionError in test_gate.py, line"),
        (lambda v: Decision(WRONG["nothing"]), "it would send None"),
    ],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_named(answer: Callable[[View], Any], told: str) -> None:
    """Whatever a policy does wrong ends in one line that names it and says how to mend it."""
    schedule = gated([chain("w0", 5)], saying(answer))
    with pytest.raises(RejouleError) as error:
        schedule.due(0.0)
    assert "the policy mine" in str(error.value) and told in str(error.value)


def test_a_policy_that_puts_off_everything_for_ever_is_ended() -> None:
    """Naming a time again and again is no way around the limit."""
    schedule = gated([chain("w0", 5)], saying(lambda v: Decision(ask_again_s=v.now_s + 60)))
    now_s = 0.0
    with pytest.raises(RejouleError, match="over 3600 s"):
        for _ in range(100):
            assert schedule.due(now_s) == []
            assert schedule.next_due_s is not None
            now_s = schedule.next_due_s


def test_a_policy_that_wants_to_be_asked_all_the_time_is_ended() -> None:
    """Asking in vain ends, however short the times that a policy names."""
    schedule = gated([chain("w0", 5)], saying(lambda v: Decision(ask_again_s=v.now_s + 0.001)))
    now_s = 0.0
    with pytest.raises(RejouleError, match=r"was asked 1,000 times in vain"):
        for _ in range(1100):
            assert schedule.due(now_s) == []
            now_s += 0.001


def test_a_policy_may_wait_for_what_is_to_come() -> None:
    """Holding everything is fine while a workflow is yet to arrive, however late."""
    flows = [chain("w0", 5), chain("w1", 5)]
    both = saying(lambda v: Decision(tuple(Send(c.id) for c in v.pending) if len(v.pending) > 1 else ()))
    schedule = gated(flows, both, arrivals_s=[0.0, 9999.0], concurrency=None)
    assert schedule.due(0.0) == []
    assert [d.call.id for d in schedule.due(9999.0)] == ["w0/n0", "w1/n0"]


class Watching(Policy):
    """Keeps which workflows it was told are over, and when."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, list[str]]] = []

    def priority(self, call: Pending, view: View) -> int:
        self.seen.append((view.now_s, [name for name, program in view.programs.items() if program.over]))
        return 0


def test_a_policy_is_told_which_workflows_are_over() -> None:
    """One with a tool to come is not, one that has ended is, and so is one whose rest can never begin."""
    policy = Watching()
    tool = made_tool("w0", "t", 10, 30)
    flows = [
        made_workflow([made_call("w0", "c", 0, 10), tool], {"barrier": [("c", "t")]}, name="w0"),
        chain("w1", 10, 10),
        *(chain(f"w{i}", 1) for i in range(2, 6)),
    ]
    schedule = gated(flows, policy, arrivals_s=[0.0, 0.0, 0.01, 0.02, 0.03, 0.04], concurrency=None)
    schedule.due(0.0)
    schedule.finished("w0/c", 0.005)
    schedule.failed("w1/n0", 0.008)
    for now_s in (0.01, 0.02, 0.03):
        schedule.due(now_s)
    assert dict(policy.seen) == {0.0: [], 0.01: ["w1"], 0.02: ["w1"], 0.03: ["w0", "w1"]}
