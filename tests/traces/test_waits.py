"""How long workflows waited, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from rejoule.traces.preempted import preempted
from rejoule.traces.run import (
    CallResult,
    Certificate,
    Configuration,
    Energy,
    PowerCap,
    Run,
    Step,
    ToolResult,
    WorkflowResult,
)
from rejoule.traces.waits import waits


def call(name: str, due_s: float, sent_s: float, end_s: float) -> CallResult:
    return CallResult(name, "w", "n", due_s, sent_s, end_s)


def step(start_s: float, *prefill: str, decode: Sequence[str] = (), preempted: Sequence[str] = ()) -> Step:
    taken = tuple((name, 8, 0) for name in prefill)
    return Step(start_s, start_s + 0.5, 1, 1.0, None, None, taken, tuple((n, 1) for n in decode), tuple(preempted))


def run(calls: Sequence[CallResult], steps: Sequence[Step] | None, tools: Sequence[ToolResult] = ()) -> Run:
    end_s = max(c.end_s for c in calls)
    return Run(
        id="r",
        trace="t",
        trace_digest="",
        configuration=Configuration(),
        trial=0,
        makespan_s=end_s,
        calls=tuple(calls),
        workflows=(WorkflowResult("w", "g", 0.0, end_s),),
        tools=tuple(tools),
        energy=Energy(),
        power_cap=PowerCap(),
        certificate=Certificate("tokens", "", len(calls)),
        steps=None if steps is None else tuple(steps),
    )


CHAIN = run(
    [call("a", 0, 1, 4), call("b", 5, 5, 7)],
    [step(2, "a"), step(5, "b")],
    [ToolResult("t", "w", "n", "search", 4, 5)],
)


def test_a_chain() -> None:
    """Held for 1 s and queued for 1 s of 7, one after the other: stalled for both."""
    (found,) = waits(CHAIN)
    assert (found.time_s, found.held_s, found.queued_s, found.stalled_s) == (7, 1, 1, 2)
    assert found.progress == pytest.approx(5 / 7)


def test_what_another_branch_covers_is_no_stall() -> None:
    """A call that waits while another of its workflow is worked at, or a tool of it runs, costs no time of its own."""
    beside = run([call("a", 0, 0, 4), call("b", 0, 1, 6)], [step(0, "a"), step(4, "b")])
    (found,) = waits(beside)
    assert (found.held_s, found.queued_s, found.stalled_s) == (1, 3, 0)
    tool = run([call("b", 0, 1, 6)], [step(4, "b")], [ToolResult("t", "w", "n", "search", 0, 3)])
    assert waits(tool)[0].stalled_s == 1


@pytest.mark.parametrize("back", [step(3, "a"), step(3, decode=["a"])], ids=["computed anew", "went on"])
def test_a_preempted_call_waits_again(back: Step) -> None:
    """From the step that put it out until the one that takes it up."""
    (found,) = waits(run([call("a", 0, 0, 5)], [step(0, "a"), step(2, preempted=["a"]), back]))
    assert (found.queued_s, found.stalled_s) == (1, 1)


def test_a_call_that_is_put_out_as_it_ends_waits_no_more() -> None:
    """Nor was it preempted: an engine that plans ahead does not see yet that its answer is whole."""
    steps = [step(1, "a"), step(2, decode=["a"]), step(2.5, preempted=["a"]), step(3, "b")]
    for end_s in (2.5, 2.6):
        ended = run([call("a", 0, 0, end_s), call("b", 3, 3, 4)], steps)
        (found,) = waits(ended)
        assert (found.queued_s, found.stalled_s) == (1, 1)
        told = preempted(ended)
        assert told is not None and (told.preemptions, told.calls) == (0, 0)


@pytest.mark.parametrize("steps", [None, (), (step(2, "a"),)], ids=["not watched", "none", "not all"])
def test_a_queue_that_is_not_seen_is_not_guessed(steps: Sequence[Step] | None) -> None:
    """Without a step for every answered call only the client's holding is known."""
    (found,) = waits(replace(CHAIN, steps=None if steps is None else tuple(steps)))
    assert (found.held_s, found.queued_s, found.stalled_s, found.progress) == (1, None, None, None)


def test_only_complete_workflows_are_told_of() -> None:
    """A workflow that did not finish has no time, and one without calls none to speak of."""
    assert waits(replace(CHAIN, workflows=(*CHAIN.workflows, WorkflowResult("v", "g", 0.0, 0.0)))) == waits(CHAIN)
    assert waits(replace(CHAIN, workflows=(replace(CHAIN.workflows[0], complete=False),))) == ()
