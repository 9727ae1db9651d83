"""The figures of workflows: by hand, and what holds of all runs."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.traces.test_waits import CHAIN, call, run, step

from rejoule.replay.engines.open import open_engine
from rejoule.replay.replay import replay
from rejoule.traces.figures import Figures, figures, gpu_count, jain
from rejoule.traces.run import Conditions, Configuration, Energy, Run, WorkflowResult
from rejoule.traces.runs import PlannedRun
from rejoule.traces.summary import latencies_s
from rejoule.traces.testing import random_trace


def ran(seed: int, workflows: int = 3, **knobs: Any) -> Run:
    trace = random_trace(seed, workflows=workflows)
    return asyncio.run(replay(trace, PlannedRun("r", "t", Configuration(**knobs), 0), "", open_engine))


def two() -> Run:
    """Two workflows of 4 and 8 s on two GPUs; the second is queued for 6 s."""
    other = replace(call("b", 0, 0, 8), workflow="v", prompt_tokens=30, cached_tokens=0)
    made = run([replace(call("a", 0, 0, 4), prompt_tokens=10, cached_tokens=4), other], [step(0, "a"), step(6, "b")])
    flows = (WorkflowResult("w", "g", 0.0, 4.0), WorkflowResult("v", "g", 0.0, 8.0))
    return replace(made, workflows=flows, engine={"gpus": 2}, energy=Energy(gpu_j=120.0))


def test_by_hand() -> None:
    """Means, rates, slowdowns of 1 and 4, Jain's index of 1 and 1/4, and the shares."""
    found = figures(two())
    assert (found.workflows, found.workflow_mean_s, found.workflow_p50_s, found.workflow_j) == (2, 6, 6, 60)
    assert (found.gpus, found.workflows_per_gpu_h, found.workflows_per_user_h) == (2, 450, 600)
    assert (found.slowdown, found.slowdown_most) == (2.5, 4)
    assert found.jain == pytest.approx(1.25**2 / (2 * (1 + 1 / 16)))
    assert found.cached_share == pytest.approx(0.1)
    assert (found.held_s, found.held_share, found.queued_s, found.queued_share) == (0, 0, 3, 0.5)
    assert (found.arrival_share, found.starved_share) == (0, None)
    assert found.notes == (
        "workflow latency p95 and p99 are of 2 workflows, too few to tell them from the longest: p95 takes 20, "
        "p99 takes 100",
    )


def test_joules_are_of_complete_workflows() -> None:
    """One that did not finish shares no figure, and it is said; none at all leaves nothing known."""
    whole = two()
    half = replace(whole, workflows=(whole.workflows[0], replace(whole.workflows[1], complete=False)))
    found = figures(half)
    assert (found.workflows, found.workflow_j, found.slowdown, found.jain) == (1, 120, 1, 1)
    assert any(note.startswith("1 workflow did not finish") for note in found.notes)
    none = figures(replace(half, workflows=half.workflows[1:]))
    unknown = ("workflow_mean_s", "workflow_p99_s", "workflow_j", "workflows_per_gpu_h", "slowdown", "jain", "held_s")
    assert none.workflows == 0 and [getattr(none, name) for name in unknown] == [None] * len(unknown)


@pytest.mark.parametrize(
    ("told", "scale", "succeeded", "success_j", "note"),
    [
        ((True, False), 1.0, 1, 120.0, "1 of 2 workflows succeeded, as judged when they were recorded"),
        ((False, False), 1.0, 0, None, "none of 2 workflows succeeded, so there are no joules a success"),
        ((True, None), 1.0, None, None, "of 1 of 2 workflows it is not known whether they succeeded"),
        ((True, True), 2.0, None, None, "whether workflows succeed at other lengths than recorded is not known"),
        ((None, None), 1.0, None, None, None),
    ],
)
def test_joules_a_success(
    told: tuple[bool | None, ...], scale: float, succeeded: int | None, success_j: float | None, note: str | None
) -> None:
    """All joules of the run by the workflows that succeeded; where that is not known, or none did, it is said."""
    flows = [replace(w, success=success) for w, success in zip(two().workflows, told, strict=True)]
    found = figures(replace(two(), workflows=tuple(flows), configuration=Configuration(output_scale=scale)))
    assert (found.succeeded, found.success_j) == (succeeded, success_j)
    assert (
        [n for n in found.notes if "succe" in n] == [] if note is None else any(n.startswith(note) for n in found.notes)
    )


def test_a_replay_takes_successes_over_in_every_pass() -> None:
    """As the trace has them, however often it is gone through."""
    trace = random_trace(1)
    trace = replace(trace, workflows=tuple(replace(w, success=w.id != "w0000") for w in trace.workflows))
    made = asyncio.run(replay(trace, PlannedRun("r", "t", Configuration(loops=2), 0), "", open_engine))
    assert figures(made).succeeded == 4


def test_a_workflow_without_calls_is_none_that_was_served() -> None:
    """It makes no mean shorter and no rate higher, here or in the latencies, and it is said."""
    more = replace(two(), workflows=(*two().workflows, WorkflowResult("x", "g", 0.0, 0.0)))
    found, same = figures(more), figures(two())
    assert (found.workflow_mean_s, found.workflows_per_gpu_h) == (same.workflow_mean_s, same.workflows_per_gpu_h)
    assert latencies_s(more) == latencies_s(two())
    assert "1 workflow had no call to replay: in no figure of workflows" in found.notes


def test_what_is_not_known_has_a_reason() -> None:
    """Without steps there is no queue, slowdown or fairness; without a count of GPUs, no throughput of one."""
    found = figures(replace(two(), steps=None, engine={}))
    assert (found.slowdown, found.slowdown_most, found.jain, found.queued_s) == (None, None, None, None)
    assert (found.workflows_per_gpu_h, found.workflows_per_user_h, found.held_s) == (None, 600, 0)
    assert any("waited in the server is not known" in note for note in found.notes)
    assert any("how many GPUs" in note for note in found.notes)


def test_gpus_are_those_of_the_engine_before_those_that_were_read() -> None:
    """A server on two of four GPUs that were watched serves on two."""
    parallel = {"tensor_parallel_size": 2, "pipeline_parallel_size": 1, "data_parallel_size": 1}
    watched = replace(CHAIN, conditions=Conditions(gpus=("a", "b", "c", "d")))
    assert gpu_count(replace(watched, engine=parallel)) == 2
    assert gpu_count(watched) == 4
    assert gpu_count(replace(watched, engine=parallel | {"data_parallel_size": None})) == 4
    assert gpu_count(replace(CHAIN, conditions=Conditions())) is None


@pytest.mark.parametrize(
    ("arrived_s", "busy_s", "word"),
    [(0.0, 4.0, None), (1.0, 4.0, None), (3.0, 4.0, "may have set"), (3.0, 1.0, "not the engine, set")],
    ids=["at once", "early", "over most of the run", "with idle time between"],
)
def test_who_sets_the_throughput(arrived_s: float, busy_s: float, word: str | None) -> None:
    """Arrivals, where they came over most of the run, or where no call was there while they did."""
    calls = [call("a", 0, 0, busy_s), replace(call("b", arrived_s, arrived_s, 5), workflow="v")]
    made = run(calls, [step(0, "a"), step(arrived_s, "b")])
    made = replace(made, workflows=(*made.workflows, WorkflowResult("v", "g", arrived_s, 5.0)), engine={"gpus": 1})
    found = [note for note in figures(made).notes if note.startswith("arrivals")]
    assert len(found) == (word is not None) and all(word in note for note in found if word)


def test_passes_are_no_arrivals() -> None:
    """A trace gone through three times, all at once each time, is not paced by arrivals."""
    found = figures(ran(3, loops=3, arrivals="burst"))
    assert (found.workflows, found.arrival_share) == (9, 0)


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=50), st.floats(1e-3, 1e3))
def test_jain(shares: list[float], factor: float) -> None:
    """Between 1/n and 1; 1 of equal shares; the same in any unit."""
    found = jain(shares)
    assert found is not None and 1 / len(shares) - 1e-12 <= found <= 1
    assert jain([shares[0]] * len(shares)) == pytest.approx(1)
    assert jain([factor * x for x in shares]) == pytest.approx(found)
    assert jain([0.0]) is None and jain([]) is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 8]), st.sampled_from([None, 1, 3]), st.sampled_from([0.25, 8.0]))
def test_what_holds_of_any_run(seed: int, batch: int, concurrency: int | None, factor: float) -> None:
    """No slowdown below 1, fairness within (0, 1], and only seconds and rates change with the clock's unit."""
    made = ran(seed, max_num_seqs=batch, concurrency=concurrency, arrivals="burst")
    found, slower = figures(made), figures(stretched(made, factor))
    assert found.slowdown is not None and 1 <= found.slowdown <= (found.slowdown_most or 0)
    assert found.jain is not None and 0 < found.jain <= 1
    for name in (f.name for f in fields(Figures) if f.name != "notes"):
        power = 1 if name.endswith("_s") else -1 if name.endswith("_h") else 0
        before, after = getattr(found, name), getattr(slower, name)
        assert after == (None if before is None else pytest.approx(before * factor**power, rel=1e-6, abs=1e-9))


def stretched(made: Run, factor: float) -> Run:
    """The run with all its times in another unit; a power of two leaves floating point alone."""

    def each(items: Any) -> Any:
        return tuple(
            replace(i, **{f.name: getattr(i, f.name) * factor for f in fields(i) if _is_time(i, f.name)}) for i in items
        )

    return replace(
        made,
        makespan_s=made.makespan_s * factor,
        calls=each(made.calls),
        workflows=each(made.workflows),
        tools=each(made.tools),
        steps=each(made.steps),
    )


def _is_time(item: Any, name: str) -> bool:
    return name.endswith("_s") and getattr(item, name) is not None


def test_a_limit_of_calls_holds_and_a_small_batch_queues() -> None:
    """The same waiting is the client's under a limit of calls in flight, and the engine's under a batch as small."""
    held, queued = (figures(ran(5, arrivals="burst", **knob)) for knob in ({"concurrency": 1}, {"max_num_seqs": 1}))
    assert held.held_s and queued.held_s == 0 and queued.queued_s
    assert (held.queued_s or 0) < 0.1 * held.held_s
    assert min(held.slowdown or 0, queued.slowdown or 0) > 1.5
