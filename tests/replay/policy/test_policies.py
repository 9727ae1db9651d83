"""Each policy against orders that were worked out by hand, or found by trying all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.replay.policy.made import chain, gated, play

from rejoule.replay.policy.interface import UNKNOWN, Capacity, Done, Flight, Knows, Pending, Program, View
from rejoule.replay.policy.knowledge import NOTHING
from rejoule.replay.policy.registry import open_policy
from rejoule.traces.chosen import BLIND
from rejoule.traces.model import Workflow
from rejoule.traces.testing import made_call, made_workflow, random_trace


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_policies_that_look_at_no_outlook_do_the_same_whatever_they_know(seed: int, concurrency: int) -> None:
    """So they are run once, and named without knowledge."""
    trace, room = random_trace(seed, workflows=4), Capacity(concurrency, 3000)
    for name in BLIND:
        sent = [
            play(gated(trace.workflows, name, knows, concurrency=concurrency, capacity=room))[0]
            for knows in ("learned", "oracle")
        ]
        assert sent[0] == sent[1]


lengths = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=2), min_size=1, max_size=3)


def interleavings(flows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Every order in which the calls of chains can be sent, as the chain that each call belongs to."""
    if not any(flows):
        yield []
    for i, flow in enumerate(flows):
        if flow:
            for rest in interleavings([*flows[:i], flow[1:], *flows[i + 1 :]]):
                yield [i, *rest]


def mean_end(flows: Sequence[Sequence[int]], order: Sequence[int]) -> float:
    """The mean time at which chains end that take turns in this order, a token each unit of time."""
    left, now, ends = [list(flow) for flow in flows], 0, dict[int, int]()
    for i in order:
        now += left[i].pop(0)
        ends[i] = now
    return mean(ends.values())


@settings(deadline=None)
@given(lengths)
def test_shortest_path_has_the_least_mean_time_of_all_orders(flows: list[list[int]]) -> None:
    """One seat, all workflows at once: no other order of the calls ends workflows sooner on the mean."""
    found, ends = play(gated([chain(f"w{i}", *flow) for i, flow in enumerate(flows)], "shortest-path"), tokens_s=1.0)
    last = {name.partition("/")[0]: at_s for name, at_s in sorted(ends.items(), key=lambda e: e[1])}
    best = min(mean_end(flows, order) for order in interleavings(flows))
    assert mean(last.values()) == pytest.approx(best)
    assert len(found) == sum(map(len, flows))


def tree(parents: Sequence[int]) -> Workflow:
    """Calls of ten milliseconds, each waited for by its parent, whose index is greater than its own."""
    ends_ms: dict[int, float] = {}
    calls = []
    for i in range(len(parents) + 1):
        start_ms = max((ends_ms[child] for child, parent in enumerate(parents) if parent == i), default=0.0)
        ends_ms[i] = start_ms + 10
        calls.append(made_call("w", f"n{i}", start_ms, ends_ms[i], output_tokens=10))
    return made_workflow(calls, {"barrier": [(f"n{c}", f"n{p}") for c, p in enumerate(parents)]}, name="w")


def least_rounds(parents: Sequence[int], places: int) -> int:
    """In how few rounds of so many calls a tree can be worked off, by trying everything."""
    everything = frozenset(range(len(parents) + 1))

    @cache
    def rounds(done: frozenset[int]) -> int:
        if done == everything:
            return 0
        ready = [
            i
            for i in sorted(everything - done)
            if all(child in done for child, parent in enumerate(parents) if parent == i)
        ]
        return 1 + min(rounds(done | set(chosen)) for chosen in combinations(ready, min(places, len(ready))))

    return rounds(frozenset())


@settings(deadline=None)
@given(st.data(), st.integers(2, 3))
def test_critical_path_ends_trees_as_soon_as_can_be(data: st.DataObject, places: int) -> None:
    """Equal calls that join and join again: no other order ends them sooner (Hu's rule)."""
    size = data.draw(st.integers(1, 7))
    parents = [data.draw(st.integers(i + 1, size)) for i in range(size)]
    _, ends = play(gated([tree(parents)], "critical-path", concurrency=places))
    assert max(ends.values()) == pytest.approx(0.01 * least_rounds(parents, places))


def fan() -> Workflow:
    """A plan, a short, a middling and a long call side by side, and what joins them, in milliseconds and tokens."""
    starts = {"plan": (0, 10), "short": (10, 20), "middle": (10, 40), "long": (10, 70), "join": (70, 80)}
    calls = [made_call("w", name, a, b, output_tokens=b - a) for name, (a, b) in starts.items()]
    sides = ("short", "middle", "long")
    edges = [*(("plan", side) for side in sides), *((side, "join") for side in sides)]
    return made_workflow(calls, {"barrier": edges}, name="w")


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("fcfs", ["long", "middle", "short"]),
        ("least-slack", ["long", "middle", "short"]),
        ("critical-path", ["long", "middle", "short"]),
        ("shortest-path", ["short", "middle", "long"]),
    ],
)
def test_a_fan_is_gone_through_as_its_paths_are_long(policy: str, order: list[str]) -> None:
    """Least slack and longest way first, or last; calls that were due at once go in the trace's order."""
    sent, _ = play(gated([fan()], policy))
    assert sent == [f"w/{name}" for name in ("plan", *order, "join")]


def test_waiting_uses_slack_up() -> None:
    """A call that could wait 50 ms has waited so long that it goes before one that can wait 20."""
    pending = (call("a", due_s=0.95, slack_s=0.02), call("b", due_s=0.90, slack_s=0.05))
    assert open_policy("least-slack", {}).priorities(view(pending)) == [-30, -50]


def test_first_come_first_served_by_call_and_by_workflow() -> None:
    """By call the second workflow's first call goes before the first one's second; by workflow it does not."""
    flows = [chain("w0", 5, 5), chain("w1", 5, 5)]
    by_call, _ = play(gated(flows, "fcfs", arrivals_s=[0.0, 0.001]))
    by_workflow, _ = play(gated(flows, "workflow-fcfs", arrivals_s=[0.0, 0.001]))
    assert by_call == ["w0/n0", "w1/n0", "w0/n1", "w1/n1"]
    assert by_workflow == ["w0/n0", "w0/n1", "w1/n0", "w1/n1"]


def call(name: str, workflow: str = "w", *, due_s: float = 0.0, turn: int = 1, **outlook: float) -> Pending:
    return Pending(
        id=name,
        workflow=workflow,
        graph="g",
        node="n",
        agent=None,
        prompt_tokens=100,
        prefix="",
        due_s=due_s,
        arrival_s=0.0,
        place=0,
        turn=turn,
        visit=1,
        outlook=replace(NOTHING, **outlook),  # type: ignore[arg-type]
    )


def view(
    pending: tuple[Pending, ...],
    *,
    now_s: float = 1.0,
    done: Sequence[Done] = (),
    in_flight: Mapping[str, Flight] = {},
    free: int | None = None,
    capacity: Capacity = UNKNOWN,
    knows: Knows = "learned",
) -> View:
    names = dict.fromkeys([*(c.workflow for c in pending), *(d.call.workflow for d in done)])
    programs = {n: Program(n, 0.0, tuple(d for d in done if d.call.workflow == n)) for n in names}
    return View(now_s, pending, in_flight, programs, free, capacity, knows)


def test_nat_puts_what_matters_into_five_levels() -> None:
    """0.5·critical path + 0.3·fan-out + 0.2·first or last − w·sibling slack, in levels, 1 for what matters most."""

    def ranked(turn: int, slack_s: float = 0.0, fan_out: float = 1.0, last: float = 0.0) -> Pending:
        return call(
            "c", turn=turn, workflow_s=1.0, slack_s=slack_s, sibling_slack_s=slack_s, fan_out=fan_out, last=last
        )

    pending = (
        ranked(1, fan_out=4.0),  # 0.5 + 0.3·3/4 + 0.2 = 0.925
        ranked(3, last=1.0),  # 0.5 + 0.2 = 0.7
        ranked(2),  # 0.5
        ranked(2, slack_s=0.5),  # 0.5·0.5 = 0.25
        ranked(2, slack_s=1.0),  # 0
    )
    assert open_policy("nat", {}).priorities(view(pending)) == [1, 2, 3, 4, 5]
    # Half of half a second less: 0.25 − 0.25 is 0.
    assert open_policy("nat", {"sibling_slack": 0.5}).priorities(view(pending)) == [1, 2, 3, 5, 5]


def test_least_attained_service_halves_with_time() -> None:
    """0.8 of what a workflow lacks of the most that one had, in prompt and twice output tokens, and 0.2 of waiting."""
    had = call("had", "w1")
    done = [
        Done(had, 0.0, 60.0, 200),  # 100 + 2·200 = 500, a half-life ago: 250
        Done(replace(had, workflow="w2"), 0.0, 120.0, 200),  # 500, just now
    ]
    pending = tuple(call(name, name, due_s=due_s) for name, due_s in (("w0", 119.0), ("w1", 118.0), ("w2", 116.0)))
    found = open_policy("las", {}).priorities(view(pending, now_s=120.0, done=done))
    assert found == [-850, -500, -200]  # 0.8·1 + 0.2/4; 0.8·0.5 + 0.2·2/4; 0.8·0 + 0.2


def test_turns_count_only_where_calls_must_wait() -> None:
    """Turn number and half of the seconds waited, as soon as there is less room than there are calls."""
    pending = (call("a", due_s=0.0, turn=1), call("b", due_s=0.5, turn=3))
    policy = open_policy("turn-priority", {})
    assert policy.priorities(view(pending)) == [0, 0]
    assert policy.priorities(view(pending, capacity=Capacity(seats=2))) == [0, 0]
    flights = {"c": Flight(call("c"), 0.0, 0)}
    assert policy.priorities(view(pending, capacity=Capacity(seats=2), in_flight=flights)) == [-1500, -3250]
    assert policy.priorities(view(pending, free=1)) == [-1500, -3250]
