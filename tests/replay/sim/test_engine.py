"""The step engine in virtual time: what it promises about time, energy, tokens and determinism."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replace_in

from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.engine import StepEngine
from rejoule.replay.sim.jobs import SimRequest
from rejoule.replay.sim.records import Event, StepRecord
from rejoule.replay.sim.shipped import load_profile
from rejoule.replay.sim.tensor_parallel import on_gpus
from rejoule.traces.errors import RejouleError

H200 = load_profile("h200-data-sheet-llama-3.1-8b")
CONFIG = EngineConfig(H200, max_num_seqs=4, max_num_batched_tokens=64, num_gpu_blocks=40)
SLOW = load_profile("h200-llama-3.1-8b")
"""Prompts take its host long to launch."""
TWO = replace(CONFIG, profile=on_gpus(SLOW, 2))

arrivals = st.lists(
    st.tuples(st.floats(0, 0.5), st.integers(1, 150), st.integers(1, 60), st.integers(0, 1)), min_size=1, max_size=8
)


def engine_with(load: list[tuple[float, int, int, int]], config: EngineConfig = CONFIG) -> StepEngine:
    engine = StepEngine(config)
    for i, (at_s, prompt, output, stem) in enumerate(load):
        engine.add(SimRequest(f"r{i}", [stem] * (prompt // 2) + [i] * (prompt - prompt // 2), output), at_s)
    return engine


def drain(engine: StepEngine, pause_s: float | None = None) -> list[Event]:
    """Every event until nothing is left; with ``pause_s``, in slices of time."""
    events = []
    while engine.busy or engine.next_event_s is not None:
        events += engine.advance(None if pause_s is None else engine.now_s + pause_s)
    return events


def token_times(records: list[StepRecord], name: str) -> list[float]:
    return [r.token_time_s(i) for r in records if name in r.decode_ids for i in range(r.steps)]


@settings(max_examples=80, deadline=None)
@given(arrivals)
def test_records_cover_time_without_gaps_and_account_for_every_joule(load: list[tuple[float, int, int, int]]) -> None:
    """Each record starts where the last one ended, and their energies add up to the engine's."""
    engine = engine_with(load)
    drain(engine)
    engine.advance(engine.now_s + 1.0)
    at_s = 0.0
    for record in engine.log.records:
        assert record.start_s == at_s < record.end_s
        power_w = record.energy_j / (record.end_s - record.start_s)
        assert H200.power.idle_w < power_w
        at_s = record.end_s
    assert at_s == engine.now_s
    assert engine.log.energy_j <= engine.power.cap_w * (engine.now_s + H200.power.cap_window_s) * (1 + 1e-9)
    assert engine.log.energy_j == pytest.approx(math.fsum(r.energy_j for r in engine.log.records), rel=1e-12)
    assert engine.log.records[-1].idle
    assert engine.log.records[-1].energy_j == pytest.approx(137.0, rel=0.01)


@pytest.mark.parametrize("config", [EngineConfig(SLOW, max_num_seqs=4), TWO], ids=["one GPU", "two"])
@settings(max_examples=40, deadline=None)
@given(load=arrivals)
def test_joules_lie_where_the_time_is(config: EngineConfig, load: list[tuple[float, int, int, int]]) -> None:
    """Where prompts take long to launch, no record draws less than the GPU at rest, or more than it ever does."""
    engine = engine_with(load, config)
    drain(engine)
    for record in engine.log.records:
        power_w = record.energy_j / (record.end_s - record.start_s)
        assert engine.power.idle_w * (1 - 1e-9) <= power_w <= 1.5 * engine.power.cap_w


@settings(max_examples=80, deadline=None)
@given(arrivals)
def test_every_token_is_emitted_once_and_in_order(load: list[tuple[float, int, int, int]]) -> None:
    """A request's first token and its decoded ones are as many as it asked for, at rising times up to its end."""
    engine = engine_with(load)
    events = drain(engine)
    finished = {e.id: e for e in events if e.kind == "finished"}
    firsts = {e.id: e.at_s for e in events if e.kind == "first_token"}
    for i, (at_s, _, output, _) in enumerate(load):
        times = token_times(engine.log.records, f"r{i}")
        end = finished[f"r{i}"]
        # Each time that a preempted request is resumed, its prefill produces a token, as the first one did.
        resumed = [r.end_s for r in engine.log.records for name, _, _ in r.prefill if name == f"r{i}"]
        assert len(times) + end.preemptions + 1 == output or end.preemptions
        assert at_s < firsts[f"r{i}"] <= end.at_s
        assert times == sorted(times)
        assert end.at_s == max([*times, *resumed])


@pytest.mark.parametrize("config", [CONFIG, TWO], ids=["one GPU", "two"])
@settings(max_examples=60, deadline=None)
@given(load=arrivals, pause_s=st.floats(0.001, 0.05))
def test_pausing_changes_nothing(config: EngineConfig, load: list[tuple[float, int, int, int]], pause_s: float) -> None:
    """Advancing in slices, as wall time does, gives the same events at the same times, and the same energy."""
    whole, sliced = engine_with(load, config), engine_with(load, config)
    assert drain(whole) == drain(sliced, pause_s)
    assert sliced.log.energy_j == pytest.approx(whole.log.energy_j, rel=1e-9)


def test_pausing_changes_nothing_where_workers_launch_more_slowly_than_gpus_decode() -> None:
    """Prompts after a long stretch are launched behind all launches of it."""
    two = load_profile("h200-llama-3.1-8b-tp2")
    load = [(0.0, 100, 300, i) for i in range(200)] + [(0.5 + i / 10, 400, 5, 200 + i) for i in range(5)]
    config = replace(TWO, profile=two, max_num_seqs=256, max_num_batched_tokens=8192, num_gpu_blocks=40000)
    whole, sliced = engine_with(load, config), engine_with(load, config)
    for a, b in zip(drain(whole), drain(sliced, 0.003), strict=True):
        assert (a.kind, a.id) == (b.kind, b.id) and a.at_s == pytest.approx(b.at_s, abs=1e-9)
    assert sliced.log.energy_j == pytest.approx(whole.log.energy_j, rel=1e-9)


@pytest.mark.parametrize(("ahead", "later"), [(False, 0), (True, 1)])
def test_a_request_is_seen_when_a_step_is_next_chosen(ahead: bool, later: int) -> None:
    """What arrives while a step runs waits for its end; asynchronously the step after it is chosen already."""
    at_s = 0.0301
    engine = engine_with([(0.0, 100, 50, 0), (at_s, 10, 5, 1)], replace(CONFIG, async_scheduling=ahead))
    drain(engine)
    begins = [r.start_s if i == 0 else r.token_time_s(i - 1) for r in engine.log.records for i in range(r.steps)]
    running = max(i for i, begin_s in enumerate(begins) if begin_s < at_s)
    seen = next(r.start_s for r in engine.log.records for name, _, _ in r.prefill if name == "r1")
    assert seen == begins[running + 1 + later]


def test_a_complete_request_keeps_its_seat_for_one_more_choice() -> None:
    """Asynchronously, the seat of a request that is complete is empty for one step if others decode."""
    load = [(0.0, 10, 5, 0), (0.0, 10, 20, 1), (0.0, 10, 5, 2)]
    batches = {}
    for ahead in (False, True):
        engine = engine_with(load, replace(CONFIG, max_num_seqs=2, async_scheduling=ahead))
        drain(engine)
        each = [sorted({*r.decode_ids, *(name for name, _, _ in r.prefill)}) for r in engine.log.records]
        batches[ahead] = [batch for batch, _ in groupby(each)]
    assert batches[False] == [["r0", "r1"], ["r1", "r2"], ["r1"]]
    assert batches[True] == [["r0", "r1"], ["r1"], ["r1", "r2"], ["r1"]]


def test_contexts_are_those_of_every_single_step() -> None:
    """Each prompt chunk and each decoding request says how much lay in the KV cache, summed over a record's steps."""
    engine = engine_with([(0.0, 150, 40, 0), (0.02, 90, 60, 1), (0.1, 30, 20, 2)])
    drain(engine)
    length: dict[str, int] = {}
    for record in engine.log.records:
        for (name, tokens, cached), context in zip(record.prefill, record.prefill_context, strict=True):
            assert context == length.get(name, 0) + cached
            length[name] = context + tokens
        assert sum(length[name] for name in record.decode_ids) == record.context_tokens
        for name, context in zip(record.decode_ids, record.decode_context, strict=True):
            assert context == sum(range(length[name], length[name] + record.steps))
            length[name] += record.steps
    assert engine.scheduler.preemptions == 0


def test_the_api_server_takes_its_time() -> None:
    """A request is seen later by a fixed time and by one for each prompt token, in which the GPU idles."""
    timing = replace_in(H200.timing, api_per_request_s=0.01, api_per_token_s=0.0001)
    engine = engine_with([(0.5, 50, 3, 0)], replace(CONFIG, profile=replace_in(H200, timing=timing)))
    drain(engine)
    first, *_ = (r for r in engine.log.records if r.prefill)
    assert first.start_s == pytest.approx(0.5 + 0.01 + 50 * 0.0001)


def test_answers_take_their_time_while_the_engine_goes_on() -> None:
    """Clients have tokens later than the step's end, and the steps are the same."""
    told = {}
    for name, late_s in (("at once", 0.0), ("late", 0.003)):
        timing = replace_in(H200.timing, api_answer_s=late_s)
        engine = engine_with(
            [(0.0, 50, 30, 0), (0.05, 60, 30, 1)], replace(CONFIG, profile=replace_in(H200, timing=timing))
        )
        told[name] = drain(engine), engine.log.records
    (soon, steps), (later, same) = told.values()
    assert steps == same
    assert [each.at_s - 0.003 for each in later] == pytest.approx([each.at_s for each in soon])


def test_of_requests_that_find_it_idle_the_first_is_begun_with_alone() -> None:
    """The others come out of the API server one after another while it is launched, and share the next step."""
    timing = replace_in(H200.timing, api_crowd_s=0.0005, host_per_step_s=0.005)
    engine = engine_with([(0.0, 10, 3, i) for i in range(4)], replace(CONFIG, profile=replace_in(H200, timing=timing)))
    drain(engine)
    assert [len(r.prefill) for r in engine.log.records if r.prefill] == [1, 3]


def test_where_several_gpus_launch_the_others_are_in_the_step_after_next() -> None:
    """The next one is chosen as soon as the first is handed over, with nobody else yet."""
    engine = engine_with([(0.0, 100, 3, i) for i in range(4)], replace(TWO, max_num_batched_tokens=8192))
    drain(engine)
    assert [len(r.prefill) for r in engine.log.records if not r.idle][:3] == [1, 0, 3]


def test_nothing_is_kept_unless_asked_for() -> None:
    """Without its records an engine does the same in the same time, with the same energy."""
    load = [(0.1 * i, 60, 30, i) for i in range(6)]
    kept, lean = engine_with(load), StepEngine(CONFIG, keep_steps=False)
    for i, (at_s, prompt, output, stem) in enumerate(load):
        lean.add(SimRequest(f"r{i}", [stem] * (prompt // 2) + [i] * (prompt - prompt // 2), output), at_s)
    assert drain(kept) == drain(lean)
    assert lean.log.records == []
    log = kept.log
    assert (lean.log.energy_j, lean.log.idle_j, lean.log.busy_s) == (log.energy_j, log.idle_j, log.busy_s)
    assert log.idle_j == pytest.approx(math.fsum(r.energy_j for r in log.records if r.idle))
    assert log.busy_s == pytest.approx(math.fsum(r.end_s - r.start_s for r in log.records if not r.idle))


def test_a_shared_prompt_is_computed_once() -> None:
    """The second request with the same prompt reports it as cached, but for the last block, and is faster."""
    engine = StepEngine(EngineConfig(H200))
    events = []
    for name in ("a", "b"):
        engine.add(SimRequest(name, list(range(1600)), 2))
        start = engine.now_s
        events.append((engine.advance()[-1], engine.now_s - start))
    (first, slow_s), (second, fast_s) = events
    assert (first.cached_tokens, second.cached_tokens) == (0, 1584)
    assert fast_s < slow_s


def test_a_quoted_answer_is_cached_up_to_its_last_computed_token() -> None:
    """A prompt that goes on from an earlier answer hits all its full blocks."""
    engine = StepEngine(EngineConfig(H200))
    engine.add(SimRequest("a", list(range(100)), 60, list(range(500, 560))))
    engine.advance()
    engine.add(SimRequest("b", [*range(100), *range(500, 560), 7, 8, 9], 1))
    # 159 tokens of the first request were computed: its last one was never read.
    assert engine.advance()[-1].cached_tokens == 159 // 16 * 16


def test_a_preempted_request_has_one_first_token_and_finds_nothing_of_its_own() -> None:
    """Computed again it hits what it left in the cache, which is not told as found: nobody else had computed it."""
    engine = engine_with([(0.0, 60, 60, 0), (0.0, 60, 60, 1)], replace(CONFIG, num_gpu_blocks=11))
    events = [event for event in drain(engine) if event.id == "r1"]
    assert [cached for r in engine.log.records for name, _, cached in r.prefill if name == "r1"] == [0, 0, 32]
    assert [(event.kind, event.cached_tokens) for event in events] == [("first_token", 0), ("finished", 0)]
    assert events[-1].preemptions == 1


def test_whoever_the_api_server_hands_on_first_is_admitted_first() -> None:
    """A short prompt that is sent while a long one is read comes after it, though alone it would have been sooner."""
    engine = StepEngine(EngineConfig(SLOW, max_num_seqs=1))
    for name, tokens, output in (("seated", 10, 100), ("long", 100_000, 1)):
        engine.add(SimRequest(name, [1] * tokens, output), 0.0)
    engine.advance(0.005)
    engine.add(SimRequest("short", [2] * 10, 1))
    assert [event.id for event in drain(engine) if event.kind == "finished"] == ["seated", "long", "short"]


@pytest.mark.parametrize(("ahead", "within_w"), [(False, 0.5), (True, 7.0)], ids=["synchronous", "asynchronous"])
def test_the_cap_goes_by_the_mean_of_what_was_drawn(ahead: bool, within_w: float) -> None:
    """Over its window, whatever came: bursts, decodes in one go, rest between requests and while a launch takes long.

    Scheduled ahead, records cut the time at outputs, and their mean power is not that of every moment.
    """
    config = EngineConfig(SLOW, max_num_seqs=64, max_num_batched_tokens=2048, async_scheduling=ahead)
    engine = engine_with([(0.15 * i + 0.5 * (i // 6), 4000 if i % 3 else 300, 30 + i, 0) for i in range(12)], config)
    mean_w, told = engine.power.idle_w, 0
    while engine.busy or engine.next_event_s is not None:
        engine.advance()
        for record in engine.log.records[told:]:
            length_s = record.end_s - record.start_s
            drawn_w = record.energy_j / length_s
            mean_w = drawn_w + (mean_w - drawn_w) * math.exp(-length_s / SLOW.power.cap_window_s)
        told = len(engine.log.records)
        assert engine.power._mean(engine.now_s) == pytest.approx(mean_w, abs=within_w)
    assert any(r.cap_bound for r in engine.log.records) and not all(r.cap_bound for r in engine.log.records)


def test_a_macro_step_costs_what_single_steps_cost() -> None:
    """Interpolating a stretch of decoding errs by less than 0.1 % against evaluating every step."""
    load = [(0.0, 3000, 2000, 0), (0.0, 100, 2000, 1)]
    config = EngineConfig(H200, max_num_seqs=8)
    engine = engine_with(load, config)
    drain(engine)
    single = engine_with(load, config)
    scheduler = single.scheduler
    scheduler.steady_steps = lambda limit: 1  # type: ignore[method-assign]
    drain(single)
    assert len(engine.log.records) < 10 < len(single.log.records)
    assert engine.now_s == pytest.approx(single.now_s, rel=1e-3)
    assert engine.log.energy_j == pytest.approx(single.log.energy_j, rel=1e-3)


def test_aborted_requests_leave_no_trace() -> None:
    """A request aborted while waiting, running or yet to arrive never finishes, and frees its blocks."""
    engine = engine_with([(0.0, 100, 500, 0), (0.0, 100, 500, 1), (9.0, 10, 10, 0)])
    engine.advance(0.05)
    assert [engine.abort(f"r{i}") for i in (0, 1, 2, 3)] == [True, True, True, False]
    assert engine.advance() == []
    assert engine.pool.usage == 0.0


SCRIPT = """
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.engine import StepEngine
from rejoule.replay.sim.shipped import load_profile
from rejoule.replay.sim.tensor_parallel import on_gpus
from rejoule.replay.sim.jobs import SimRequest
engine = StepEngine(EngineConfig(load_profile("a100-llama-3.1-8b"), max_num_seqs=4, num_gpu_blocks=300))
for i in range(40):
    engine.add(SimRequest(f"r{i}", [i % 3] * 500 + [i] * 100, 50 + i, cache_salt="ab"[i % 2]), i * 0.01)
while engine.next_event_s is not None:
    engine.advance()
print(engine.log.records)
"""


def test_equal_inputs_give_equal_bytes_in_any_process() -> None:
    """Neither the process nor its hash seed shows in the records."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ".src"},
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 10_000


def test_other_versions_of_python_give_equal_bytes() -> None:
    """The interpreters named in REJOULE_OTHER_PYTHONS, which need numpy, orjson and msgspec, print the same records."""
    others = os.environ.get("REJOULE_OTHER_PYTHONS")
    if not others:
        pytest.skip("REJOULE_OTHER_PYTHONS names no interpreters, separated by colons")
    outputs = {
        python: subprocess.run(
            [python, "-c", SCRIPT], capture_output=True, check=True, env={"PYTHONPATH": ".src"}
        ).stdout
        for python in (sys.executable, *others.split(os.pathsep))
    }
    assert len(set(outputs.values())) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"max_num_batched_tokens": 2}, "max_num_batched_tokens"),
        ({"num_gpu_blocks": 1}, "num_gpu_blocks"),
        ({"scheduling_policy": "random"}, "fcfs or priority"),
        ({"power_cap_w": 100}, "200 to 700 W"),
        ({"sm_clock_mhz": 5000}, "345 to 1980 MHz"),
    ],
)
def test_impossible_knobs_are_refused_with_a_remedy(change: dict[str, int], says: str) -> None:
    """A knob that no GPU or vLLM would take is refused when the engine is made."""
    with pytest.raises(RejouleError, match=says):
        StepEngine(replace(CONFIG, **change))  # type: ignore[arg-type]


def test_a_request_larger_than_the_cache_is_refused() -> None:
    """What could never be scheduled is refused at once instead of waiting for ever; what fills the cache is served."""
    for prompt, output in ((1000, 10), (615, 10), (10, 615)):
        with pytest.raises(RejouleError, match="KV blocks"):
            StepEngine(CONFIG).add(SimRequest("a", [1] * prompt, output))
    engine = StepEngine(CONFIG)
    engine.add(SimRequest("a", [1] * 614, 10))
    assert [event.kind for event in drain(engine)] == ["first_token", "finished"]


@settings(max_examples=80, deadline=None)
@given(arrivals, st.booleans(), st.data())
def test_senders_learn_how_far_an_answer_is(
    load: list[tuple[float, int, int, int]], ahead: bool, data: st.DataObject
) -> None:
    """A request tells of every number of tokens that it was asked for when that token's step ends, and stops there."""
    engine = StepEngine(replace(CONFIG, async_scheduling=ahead))
    asked: dict[str, list[int]] = {}
    for i, (at_s, prompt, output, stem) in enumerate(load):
        tell_at = data.draw(st.sets(st.integers(1, output + 5), max_size=3))
        asked[f"r{i}"] = sorted(tell_at)
        ids = [stem] * (prompt // 2) + [i] * (prompt - prompt // 2)
        engine.add(SimRequest(f"r{i}", ids, output, tell_at=tuple(sorted(tell_at))), at_s)
    told: dict[str, list[Event]] = {}
    firsts: dict[str, float] = {}
    while engine.busy or engine.next_event_s is not None:
        events = engine.advance()
        assert len({e.at_s for e in events if e.kind != "first_token"}) <= 1
        for event in events:
            if event.kind == "emitted":
                told.setdefault(event.id, []).append(event)
            elif event.kind == "first_token":
                firsts[event.id] = event.at_s
    for i, (_, _, output, _) in enumerate(load):
        name = f"r{i}"
        assert [e.tokens for e in told.get(name, ())] == [n for n in asked[name] if n < output]
        if not any(name in record.preempted for record in engine.log.records):
            times = [firsts[name], *token_times(engine.log.records, name)]
            assert [e.at_s for e in told.get(name, ())] == pytest.approx(
                [times[n - 1] for n in asked[name] if n < output]
            )


def test_nothing_is_told_that_nobody_asked_for() -> None:
    """A run in which somebody is told of a token does the same steps, at the same times but for rounding."""
    load = [(0.0, 100, 200, 0), (0.05, 40, 100, 1)]
    plain, told = engine_with(load), StepEngine(CONFIG)
    for i, (at_s, prompt, output, stem) in enumerate(load):
        ids = [stem] * (prompt // 2) + [i] * (prompt - prompt // 2)
        told.add(SimRequest(f"r{i}", ids, output, tell_at=(7, 50)), at_s)
    ends = [{e.id: e.at_s for e in drain(engine) if e.kind == "finished"} for engine in (plain, told)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)
    assert sum(r.steps for r in plain.log.records) == sum(r.steps for r in told.log.records)
