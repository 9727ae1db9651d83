"""A closed loop of users: ``users:N,THINK_S``."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from rejoule.replay.arrivals import arrival_times, check_arrivals, think_s
from rejoule.replay.engines.open import open_engine
from rejoule.replay.replay import replay
from rejoule.replay.schedule import Schedule
from rejoule.traces import RejouleError, Trace
from rejoule.traces.figures import figures
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.testing import made_call, made_trace, made_workflow, random_trace


def ran(trace: Trace, arrivals: str, policy: str | None = None) -> Run:
    knobs = Configuration(arrivals=arrivals, policy=policy)
    return asyncio.run(replay(trace, PlannedRun("run", "trace", knobs, 0), "", open_engine))


def under_way(run: Run) -> int:
    """Most workflows at once; one that begins as another ends is not beside it."""
    ends = {w.id: max([w.end_s, *(t.end_s for t in run.tools if t.workflow == w.id)]) for w in run.workflows}
    times = sorted([(w.arrival_s, 1) for w in run.workflows] + [(end_s, -1) for end_s in ends.values()])
    most = now = 0
    for _, change in times:
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize("policy", [None, "las", "parrot"])
@pytest.mark.parametrize("users", [1, 3])
def test_so_many_workflows_are_under_way_at_most(users: int, policy: str | None) -> None:
    """Of users there are N, whatever the policy, and every workflow has its turn."""
    trace = random_trace(3, workflows=8)
    found = ran(trace, f"users:{users}", policy)
    assert under_way(found) <= users
    assert all(w.complete for w in found.workflows) and len(found.calls) == len(list(trace.calls))
    assert sorted(w.arrival_s for w in found.workflows)[users - 1] == 0.0


def test_a_user_thinks_between_two_workflows() -> None:
    """The next workflow arrives so many seconds after the end of the last; the first one at once."""
    trace = made_trace([made_workflow([made_call(f"w{i}", f"c{i}", 0, 100)], {}, name=f"w{i}") for i in range(3)])
    found = ran(trace, "users:1,2.5").workflows
    assert [b.arrival_s - a.end_s for a, b in pairwise(found)] == pytest.approx([2.5, 2.5])


def test_a_failed_workflow_frees_its_user() -> None:
    """A user whose workflow failed goes on with the next; so does one whose workflow has nothing to do."""
    flows = [made_workflow([made_call(f"w{i}", f"c{i}", 0, 100)], {}, name=f"w{i}") for i in range(2)]
    empty = replace(flows[0], id="empty", calls=(), tool_calls=(), tasks=(), edges=())
    flows = [flows[0], empty, flows[1]]
    schedule = Schedule(flows, arrival_times(flows, "users:1", time_scale=1.0, seed=""), think_s=1.0)
    assert [due.call.id for due in schedule.due(0.0)] == ["w0/c0"]
    schedule.failed("w0/c0", 4.0)
    assert schedule.due(5.5) == []
    assert [due.call.id for due in schedule.due(6.0)] == ["w1/c1"]
    assert schedule.arrival_s == {"w0": 0.0, "empty": 5.0, "w1": 6.0}


def test_users_are_no_arrivals_that_hold_the_engine_back() -> None:
    """A closed loop that keeps the engine busy is not said to set its throughput; one that thinks for long is."""
    trace = random_trace(3, workflows=8)
    assert not [n for n in figures(ran(trace, "users:2")).notes if "arrivals" in n]
    assert [n for n in figures(ran(trace, "users:2,60")).notes if "arrivals (users:2,60)" in n]


@pytest.mark.parametrize("spelt", ["users:", "users:0", "users:-1", "users:1.5", "users:2,", "users:2,-1", "users:2,x"])
def test_users_that_make_no_sense_are_refused(spelt: str) -> None:
    """A number of users below one, or a time that is none, ends in one line."""
    with pytest.raises(RejouleError, match="no number of users"):
        check_arrivals(spelt)
    assert think_s("users:4") == think_s("burst") == 0.0
