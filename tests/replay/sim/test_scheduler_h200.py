"""The simulated scheduler against the steps that vLLM 0.26 made on H200s, scheduling asynchronously.

Nobody recorded when a call reached vLLM's scheduler, but when it was sent and in which step its prompt began. It is
added ``AT_LATEST_S`` after it was sent, or in the step in which it began if that was sooner, so that calls which waited
for a seat wait in the simulator too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from benchmarks.full_kv import load_of
from benchmarks.full_kv_measured import SEED
from benchmarks.validation import DATA

from rejoule.replay.engines.sim import output_ids, prompt_ids
from rejoule.replay.sim.jobs import Job, SimRequest
from rejoule.replay.sim.kv_cache import BlockPool
from rejoule.replay.sim.limits import Limits
from rejoule.replay.sim.scheduler import Scheduler
from rejoule.traces.made_tokens import MadeTokens
from rejoule.traces.model import Trace
from rejoule.traces.run import Run, Step
from rejoule.traces.runs import load_runs
from rejoule.traces.store import load

AT_LATEST_S = 0.06
"""Longer than the API server takes for a call of the workloads."""

Told = tuple[dict[str, tuple[int, int]], dict[str, int], tuple[str, ...]]
"""(tokens, cached tokens) of each prompt chunk, the context of each who decodes (0 if unknown), and the preempted."""


@pytest.fixture(scope="module")
def recorded() -> dict[str, dict[str, SimRequest]]:
    """The calls of the workloads' traces, by trace."""
    return {path.name.split(".")[0]: asked(load(path)) for path in (DATA / "workloads" / "traces").iterdir()}


@pytest.fixture(scope="module")
def mixed() -> dict[str, SimRequest]:
    """The calls of the load that was measured with few KV blocks."""
    return asked(load_of(SEED))


def asked(trace: Trace) -> dict[str, SimRequest]:
    requests = [(call.id, prompt_ids(call), output_ids(call, 1.0)) for call in trace.calls]
    return {name: SimRequest(name, prompt, len(output), output) for name, prompt, output in requests}


def unlike(run: Run) -> dict[str, SimRequest]:
    """Calls as long as those of a run whose prompts have nothing in common."""
    made = MadeTokens(16384, 0)
    sizes = [(c.id, c.prompt_tokens or 0, c.output_tokens or 0) for c in run.calls]
    return {name: SimRequest(name, made.of(i, prompt), output) for i, (name, prompt, output) in enumerate(sizes)}


def arrivals(run: Run, steps: list[Step], within_s: float | None) -> list[tuple[int, str]]:
    """The step before which each call is added, in the order in which vLLM began with them."""
    began: dict[str, int] = {}
    for i, step in enumerate(steps):
        for name, _, _ in step.prefill:
            began.setdefault(name, i)
    if within_s is None:
        return [(i, name) for name, i in began.items()]
    # A step is chosen when the one before it begins.
    chosen_s = [steps[max(0, i - 1)].start_s for i in range(len(steps))]
    sent_s = {c.id: c.sent_s for c in run.calls}
    latest = 0
    found = []
    for name, i in began.items():
        latest = max(latest, min(i, bisect_left(chosen_s, sent_s[name] + within_s)))
        found.append((latest, name))
    return found


def played(run: Run, requests: Mapping[str, SimRequest], within_s: float | None, ahead: bool = True) -> Iterator[Told]:
    """What the simulated scheduler puts into each step of a run."""
    facts = run.engine
    steps = [step for step in run.steps or () if not step.idle]
    pool = BlockPool(facts["num_gpu_blocks"], facts["block_size"], facts["prefix_caching"])
    limits = Limits(facts["max_num_seqs"], facts["max_num_batched_tokens"], async_scheduling=ahead)
    scheduler = Scheduler(pool, limits)
    todo = arrivals(run, steps, within_s)
    added = 0
    for i in range(len(steps)):
        while added < len(todo) and todo[added][0] <= i:
            scheduler.add(Job(requests[todo[added][1]], float(added), added))
            added += 1
        plan = scheduler.plan()
        while not plan.chunks and not plan.decodes and scheduler.busy:
            # All that was left are complete requests: such a step takes no time, and no record tells of it.
            scheduler.commit(1)
            plan = scheduler.plan()
        missed = {job.request.id for job in plan.skipped}
        tick = scheduler.decoding.tick
        yield (
            {chunk.job.request.id: (chunk.tokens, chunk.cached) for chunk in plan.chunks},
            {name: base + tick for name, base in scheduler.decoding.bases.items() if name not in missed},
            tuple(job.request.id for job in plan.preempted),
        )
        scheduler.commit(1)


def first_difference(
    run: Run, requests: Mapping[str, SimRequest], within_s: float | None, ahead: bool = True
) -> int | None:
    """The first step in which the simulated scheduler does anything else than vLLM did; ``None`` if there is none."""
    steps = [step for step in run.steps or () if not step.idle]
    for i, (step, told) in enumerate(zip(steps, played(run, requests, within_s, ahead), strict=True)):
        assert step.steps == 1
        names = [name for name, _ in step.decode]
        contexts = dict(zip(names, step.decode_context, strict=True)) if step.decode_context else told[1]
        prefill = {name: (tokens, cached) for name, tokens, cached in step.prefill}
        if told != (prefill, contexts, step.preempted) or told[1].keys() != set(names):
            return i
    return None


def runs(folder: Path) -> list[Run]:
    return [run for run in load_runs(folder).runs if run.steps]


def step_count(found: list[Run]) -> int:
    return sum(not step.idle for run in found for step in run.steps or ())


@pytest.mark.parametrize(
    ("folder", "size"),
    [
        ("workloads", (48, 68_545)),
        ("workloads-watched", (40, 41_734)),
        ("workloads-other-card", (16, 22_909)),
        ("unseen-workloads-trials", (36, 59_181)),
    ],
)
def test_workloads_have_the_steps_of_a_gpu(
    folder: str, size: tuple[int, int], recorded: dict[str, dict[str, SimRequest]]
) -> None:
    """The four workloads at 1, 8, 64 and 256 seats: equal chunks, prefix hits, contexts and admissions."""
    found = runs(DATA / folder)
    assert (len(found), step_count(found)) == size
    for run in found:
        assert first_difference(run, recorded[run.trace], AT_LATEST_S) is None, run.id


def test_steps_tell_whether_scheduling_is_asynchronous(recorded: dict[str, dict[str, SimRequest]]) -> None:
    """Where seats are short, the same loads scheduled synchronously make other steps: the comparison is sharp."""
    found = runs(DATA / "workloads-watched")
    differ = [run for run in found if first_difference(run, recorded[run.trace], AT_LATEST_S, ahead=False) is not None]
    assert differ and all(run.configuration.max_num_seqs == 8 for run in differ)


@pytest.mark.parametrize(
    ("folder", "size"), [("additivity", (6, 14_264)), ("steady", (4, 9_527)), ("sampler", (6, 8_085))]
)
def test_full_batches_have_the_steps_of_a_gpu(folder: str, size: tuple[int, int]) -> None:
    """Hundreds of calls at once, whose prompts fill the token budget and are cut where it ends."""
    found = runs(DATA / folder)
    assert (len(found), step_count(found)) == size
    assert any(len(step.prefill) > 10 for run in found for step in run.steps or ())
    for run in found:
        assert first_difference(run, unlike(run), None) is None, run.id


@pytest.mark.parametrize(("folder", "size"), [("full-kv", (6, 13_886, 58)), ("full-kv-uncached", (3, 7_868, 18))])
def test_a_full_kv_cache_has_the_steps_of_a_gpu(
    folder: str, size: tuple[int, int, int], mixed: dict[str, SimRequest]
) -> None:
    """Where blocks run out: equal preemptions, prompts computed again, and hits, where there are any, in what was not
    evicted."""
    found = runs(DATA / folder)
    preempted = sum(len(step.preempted) for run in found for step in run.steps or ())
    assert (len(found), step_count(found), preempted) == size
    for run in found:
        assert first_difference(run, mixed, AT_LATEST_S) is None, run.id
