"""What is due, given what finished."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.replay.arrivals import arrival_times, check_arrivals
from rejoule.replay.places import Places
from rejoule.replay.schedule import Schedule
from rejoule.traces import RejouleError, Trace
from rejoule.traces.check import EDGE_SETS, problems
from rejoule.traces.model import Call, Edge, EdgeKind, EdgeSet, ToolCall
from rejoule.traces.testing import MS, made_call, made_tool, made_trace, made_workflow, random_trace


@dataclass
class Server:
    """Answers every call after a time of its own, in virtual time."""

    takes_s: float = 0.05
    failing: frozenset[str] = frozenset()
    tokens_s: float = 0.001
    """Between two tokens of an answer, of which the first comes with its sending."""
    longest: int = 10_000
    """Tokens that it answers at most."""
    sent_s: dict[str, float] = field(default_factory=dict)
    told: dict[tuple[str, int], float] = field(default_factory=dict)
    """When it told that so many tokens of a call had come."""
    end_s: dict[str, float] = field(default_factory=dict)
    most_in_flight: int = 0

    def play(self, schedule: Schedule) -> None:
        now_s, in_flight = 0.0, list[tuple[float, str, int]]()
        while not schedule.done:
            for due in schedule.due(now_s):
                assert due.due_s <= now_s
                self.sent_s[due.call.id] = now_s
                heappush(in_flight, (now_s + self.takes_s, due.call.id, 0))
                for tokens in due.tell_at:
                    at_s = now_s + tokens * self.tokens_s
                    if tokens <= self.longest and at_s < now_s + self.takes_s:
                        heappush(in_flight, (at_s, due.call.id, tokens))
            self.most_in_flight = max(self.most_in_flight, sum(not tokens for _, _, tokens in in_flight))
            if schedule.done:
                break
            times = [t for t in (schedule.next_due_s, in_flight[0][0] if in_flight else None) if t is not None]
            now_s = min(times)
            while in_flight and in_flight[0][0] <= now_s:
                at, name, tokens = heappop(in_flight)
                if tokens:
                    self.told[name, tokens] = at
                    schedule.emitted(name, tokens, at)
                    continue
                self.end_s[name] = at
                if name in self.failing:
                    schedule.failed(name)
                else:
                    schedule.finished(name, at)


def scheduled(
    trace: Trace,
    edge_set: EdgeSet = "barrier",
    concurrency: int | None = None,
    scale: float = 1.0,
    output_scale: float = 1.0,
) -> Schedule:
    arrivals = arrival_times(trace.workflows, "recorded", time_scale=scale, seed="0")
    return Schedule(
        trace.workflows,
        arrivals,
        edge_set=edge_set,
        places=Places(concurrency),
        time_scale=scale,
        output_scale=output_scale,
    )


def with_streams(trace: Trace, seed: int) -> Trace:
    """The same workflows, in which some vertices began on part of the answers of calls that began before them."""
    source, flows = random.Random(seed), []
    for flow in trace.workflows:
        edges, vertices = list(flow.edges), list(flow.vertices.values())
        for i, target in enumerate(vertices):
            calls = [v for v in vertices[:i] if isinstance(v, Call) and v.start_ns < target.start_ns]
            for call in source.sample(calls, k=min(len(calls), source.randint(0, 2))):
                if (call.id, target.id) not in {(e.source, e.target) for e in edges}:
                    edges.append(Edge(call.id, target.id, "streamed", source.randint(1, 50)))
        flows.append(replace(flow, edges=tuple(edges)))
    return replace(trace, workflows=tuple(flows))


@given(
    seed=st.integers(0, 10_000),
    edge_set=st.sampled_from(["barrier", "trigger"]),
    concurrency=st.sampled_from([None, 1, 2, 5]),
    scale=st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=150, deadline=None)
def test_order(seed: int, edge_set: EdgeSet, concurrency: int | None, scale: float) -> None:
    """Every call is sent once, after all that it waits for and its gap, and never more at a time than allowed."""
    trace = random_trace(seed)
    schedule, server = scheduled(trace, edge_set, concurrency, scale), Server()
    server.play(schedule)
    assert server.most_in_flight <= (concurrency or 1000)
    assert server.sent_s.keys() == {c.id for c in trace.calls}
    end_s = server.end_s | {w.vertex.id: w.end_s for w in schedule.waited}
    start_s = server.sent_s | {w.vertex.id: w.start_s for w in schedule.waited}
    for workflow in trace.workflows:
        for target, sources in workflow.predecessors(edge_set).items():
            ready = max([schedule.arrival_s[workflow.id], *(end_s[s] for s in sources)])
            assert start_s[target] >= ready + workflow.gaps_ns[target] / 1e9 * scale - 1e-9


@given(
    seed=st.integers(0, 10_000),
    edge_set=st.sampled_from(["barrier", "trigger"]),
    concurrency=st.sampled_from([None, 1, 2]),
    output_scale=st.sampled_from([0.1, 1.0, 3.0]),
    longest=st.sampled_from([3, 10_000]),
)
@settings(max_examples=150, deadline=None)
def test_order_on_parts_of_answers(
    seed: int, edge_set: EdgeSet, concurrency: int | None, output_scale: float, longest: int
) -> None:
    """What began on part of an answer never begins before that part is there, and always does in the end."""
    trace = with_streams(random_trace(seed), seed)
    assert problems(trace) == []
    schedule = scheduled(trace, edge_set, concurrency, output_scale=output_scale)
    server = Server(longest=longest)
    server.play(schedule)
    assert schedule.done and not schedule.skipped
    assert server.sent_s.keys() == {c.id for c in trace.calls}
    start_s = server.sent_s | {w.vertex.id: w.start_s for w in schedule.waited}
    for workflow in trace.workflows:
        for target, parts in workflow.streamed.items():
            for source, tokens in parts.items():
                there_s = server.told.get((source, max(1, round(tokens * output_scale))), server.end_s[source])
                assert start_s[target] >= there_s + workflow.gaps_ns[target] / 1e9 - 1e-9


def on_part(tokens: int = 4, **more: Any) -> Trace:
    """A call of 20 tokens in 20 ms, and another one that was sent 2 ms after so many of them had come."""
    source = replace(made_call("w0000", "a", 0, 20, output_tokens=20), chunk_ns=tuple(range(MS, 21 * MS, MS)), **more)
    vertices = [replace(source, first_token_ns=MS), made_call("w0000", "b", tokens + 2, 50)]
    return made_trace([made_workflow(vertices, {}, streamed=[("a", "b", tokens)])])


@pytest.mark.parametrize(("output_scale", "told"), [(1.0, 4), (2.0, 8), (0.01, 1)])
def test_a_part_grows_with_the_answer(output_scale: float, told: int) -> None:
    """The part of an answer that a call waits for is scaled as answers are, and is a token at least; its gap is not."""
    schedule, server = scheduled(on_part(), output_scale=output_scale), Server()
    server.play(schedule)
    assert server.told.keys() == {("w0000/a", told)}
    assert server.sent_s["w0000/b"] == pytest.approx(told * 0.001 + 0.002)


def test_an_answer_that_is_shorter_lets_go_at_its_end() -> None:
    """Where the part never comes, because the answer is shorter, its end will do."""
    schedule, server = scheduled(on_part()), Server(longest=3)
    server.play(schedule)
    assert server.sent_s["w0000/b"] == pytest.approx(0.050 + 0.002)


def test_a_part_of_what_is_not_sent_again() -> None:
    """What began on part of an answer that is waited out begins when it did."""
    schedule, server = scheduled(on_part(status=500)), Server()
    server.play(schedule)
    assert server.sent_s == {"w0000/b": pytest.approx(0.006)}


@pytest.mark.parametrize(("longest", "sent"), [(3, {"w0000/a"}), (10_000, {"w0000/a", "w0000/b"})])
def test_a_call_that_fails_after_its_part(longest: int, sent: set[str]) -> None:
    """A call that fails before the part is there takes with it what waits for that, and after it nothing."""
    schedule, server = scheduled(on_part()), Server(failing=frozenset({"w0000/a"}), longest=longest)
    server.play(schedule)
    assert server.sent_s.keys() == sent
    assert schedule.skipped == {"w0000/a", "w0000/b"} - (sent - {"w0000/a"})


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_failure_stops_only_dependants(seed: int) -> None:
    """What depends on a failed call is not sent; everything else is."""
    trace = random_trace(seed)
    broken = min(c.id for c in trace.calls)
    schedule, server = scheduled(trace), Server(failing=frozenset({broken}))
    server.play(schedule)
    lost = {broken}
    for workflow in trace.workflows:
        for target, sources in workflow.predecessors("barrier").items():
            if lost & set(sources):
                lost.add(target)
    assert schedule.skipped == lost
    assert server.sent_s.keys() == {c.id for c in trace.calls} - (lost - {broken})


def test_ties_go_by_the_order_of_the_trace() -> None:
    """Calls that are due at one time come in the order of their workflows, then of the trace, whatever their names."""
    flows = [made_workflow([made_call(w, c, 0, 10) for c in ("c1", "c0")], {}, name=w) for w in ("w1", "w0")]
    schedule = Schedule(flows, [0.0, 0.0])
    due = [item.call.id for item in schedule.due(0.0)]
    assert due == [name for flow in flows for name in flow.vertices]


def test_gap_and_tool_time() -> None:
    """A call goes out when the recorded tool time and the client's own time have passed after its predecessor."""
    vertices: list[Call | ToolCall] = [
        made_call("w0000", "a", 0, 10),
        made_tool("w0000", "t", 12, 112),
        made_call("w0000", "b", 115, 120),
    ]
    trace = made_trace([made_workflow(vertices, {"barrier": [("a", "t"), ("t", "b")]})])
    schedule, server = scheduled(trace), Server(takes_s=1.0)
    server.play(schedule)
    assert server.sent_s["w0000/b"] == pytest.approx(1.0 + 0.002 + 0.100 + 0.003)


def test_failed_attempts_are_waited_out() -> None:
    """An attempt that failed when it was recorded is not sent again; its time passes."""
    vertices = [made_call("w0000", "a.0", 0, 30, status=500), made_call("w0000", "a.1", 40, 50)]
    trace = made_trace([made_workflow(vertices, {"barrier": [("a.0", "a.1")]})])
    schedule, server = scheduled(trace), Server()
    server.play(schedule)
    assert server.sent_s == {"w0000/a.1": pytest.approx(0.040)}


def test_trigger_edges_start_sooner() -> None:
    """Following only what control flow required, a branch does not wait for its neighbour's superstep."""
    vertices: list[Call | ToolCall] = [
        made_call("w0000", "fast", 0, 10),
        made_tool("w0000", "slow", 0, 100),
        made_call("w0000", "next", 101, 110),
    ]
    edges: dict[EdgeKind, list[tuple[str, str]]] = {
        "barrier": [("fast", "next"), ("slow", "next")],
        "trigger": [("fast", "next")],
    }
    trace, sent = made_trace([made_workflow(vertices, edges)]), []
    for edge_set in EDGE_SETS:
        server = Server(takes_s=0.01)
        server.play(scheduled(trace, edge_set))
        sent.append(server.sent_s["w0000/next"])
    assert sent == [pytest.approx(0.101), pytest.approx(0.011)]


def test_arrivals() -> None:
    """Arrivals are as recorded and scaled, all at once, or Poisson with the rate and seed that were given."""
    flows = random_trace(0, workflows=2000).workflows
    assert arrival_times(flows, "recorded", time_scale=2, seed="0")[:3] == [0.0, 0.08, 0.16]
    assert set(arrival_times(flows, "burst", time_scale=1, seed="0")) == {0.0}
    times = arrival_times(flows, "poisson:4", time_scale=1, seed="1")
    assert times == arrival_times(flows, "poisson:4", time_scale=1, seed="1")
    assert times != arrival_times(flows, "poisson:4", time_scale=1, seed="2")
    assert times[-1] / 2000 == pytest.approx(1 / 4, rel=0.1)


@pytest.mark.parametrize(
    "arrivals", ["", "soon", "poisson", "poisson:", "poisson:0", "poisson:-1", "poisson:inf", "gamma:3"]
)
def test_unknown_arrivals(arrivals: str) -> None:
    """An unknown arrival process is refused with the ones that there are."""
    with pytest.raises(RejouleError, match="recorded, burst, or poisson:RATE"):
        check_arrivals(arrivals)
