"""More calls than the KV cache holds: nothing is lost or counted twice, and when slower clocks make it worse."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import click
import msgspec
import orjson
import pytest
from benchmarks.causes.loads import Shape, trace_of
from benchmarks.causes.planted import run_of
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.analysis.attribution import attribute
from rejoule.analysis.cli.advise import advise
from rejoule.analysis.cli.diff import diff
from rejoule.analysis.cli.energy import energy
from rejoule.analysis.cli.report import report
from rejoule.analysis.notes import pair_notes
from rejoule.analysis.pairing import Pair
from rejoule.analysis.report.doubts import doubts
from rejoule.analysis.summary.cells import gather
from rejoule.replay.remarks import between_runs
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.preempted import preempted, preemptions_of, tokens_again
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import Experiment, PlannedRun, create, load_runs, save_run
from rejoule.traces.store import trace_digest
from rejoule.traces.summary import summary

CROWD = Shape(workflows=12, apart_ms=0.0, shared=200, tool_ms=0.0)
SLOW_MHZ = 495.0
BASE = Configuration(max_num_seqs=64, output_scale=3.0, arrivals="burst")


def tight(seed: int = 0, blocks: int = 330, shape: Shape = CROWD, caching: bool = True, **knobs: object) -> Run:
    options = {"num_gpu_blocks": blocks, "enable_prefix_caching": caching}
    return run_of(trace_of(shape, seed), replace(BASE, options=options, **knobs))  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 20),
    st.sampled_from([300, 330, 400]),
    st.fixed_dictionaries(
        {"enable_prefix_caching": st.booleans(), "async_scheduling": st.booleans()},
        optional={"max_num_batched_tokens": st.just(300), "scheduling_policy": st.just("priority")},
    ),
)
def test_every_token_is_computed_once_besides_those_computed_again(
    seed: int, blocks: int, options: dict[str, object]
) -> None:
    """Found in the cache, computed for the first time, and decoded: prompt and answer but for its last token."""
    run = run_of(trace_of(CROWD, seed), replace(BASE, options={"num_gpu_blocks": blocks, **options}))
    new = {call.id: call.cached_tokens or 0.0 for call in run.calls}
    steps = run.steps or ()
    for step, again in zip(steps, tokens_again(steps, {c.id: c.prompt_tokens for c in run.calls}), strict=True):
        for (name, tokens, _), twice in zip(step.prefill, again, strict=True):
            assert 0.0 <= twice <= tokens
            new[name] += tokens - twice
        for name, tokens in step.decode:
            new[name] += tokens
    assert new == {c.id: (c.prompt_tokens or 0) + (c.output_tokens or 0) - 1 for c in run.calls}


def test_calls_and_steps_tell_of_the_same_preemptions() -> None:
    run = tight()
    told = preemptions_of(run.steps or ())
    assert told and {c.id: c.preemptions for c in run.calls} == {c.id: told[c.id] for c in run.calls}


def test_joules_of_what_is_computed_again_are_part_of_their_nodes() -> None:
    """By node they add up to those of the run, and all joules to the total; without steps they are not known."""
    run = tight(caching=False)
    found = attribute(run)
    assert found is not None
    nodes, whole = found.by_node(), found.by_phase()
    assert whole.again_j is not None and 0.0 < whole.again_j < whole.prefill_j
    assert sum(n.again_j or 0.0 for n in nodes.values()) == pytest.approx(whole.again_j, rel=1e-12)
    without_work = sum(found.without_work().values())
    assert sum(n.total_j for n in nodes.values()) + without_work == pytest.approx(found.gpu_j, rel=1e-9)
    blind = attribute(replace(run, steps=None))
    assert blind is not None and blind.by_phase().again_j is None


def test_the_terminal_and_json_say_that_the_cache_was_full() -> None:
    full, roomy = tight(), tight(blocks=5000)
    assert any("the KV cache was full" in note for note in between_runs([full, roomy]))
    assert not any("the KV cache was full" in note for note in between_runs([roomy]))
    said, none = summary(full)["preempted"], summary(roomy)["preempted"]
    assert said["preemptions"] > 0 and said["again_tokens"] > 0.0
    assert none == {"preemptions": 0, "calls": 0, "of_calls": none["of_calls"], "again_tokens": 0.0,
                    "prefill_tokens": none["prefill_tokens"], "again_share": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with few blocks and with plenty, at two batch sizes."""
    trace, path = trace_of(CROWD, 0), tmp_path_factory.mktemp("full") / "runs"
    found = [tight(blocks=blocks, max_num_seqs=batch) for blocks in (330, 5000) for batch in (4, 64)]
    found = [replace(run, id=f"r{i}", trace="crowd") for i, run in enumerate(found)]
    planned = tuple(PlannedRun(run.id, run.trace, run.configuration, run.trial) for run in found)
    create(path, Experiment({"crowd": trace_digest(trace)}, planned, 1, 0, "0.1.0"), {"crowd": trace})
    for run in found:
        save_run(path, run)
    return path


def said(command: click.Command, *words: object) -> str:
    done = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


FEW = ("--a", "options.num_gpu_blocks=330", "--a", "max_num_seqs=64")


def test_energy_shows_what_was_computed_again(folder: Path) -> None:
    """A column by node, which adds up; nothing of the kind where nothing was."""
    shown = said(energy, folder, *FEW)
    assert "the KV cache was full" in shown and " again " in shown
    (spent,) = orjson.loads(said(energy, folder, *FEW, "--json"))["configurations"]
    (phase,) = orjson.loads(said(energy, folder, *FEW, "--by", "phase", "--json"))["configurations"]
    again = [part["again_j"] for part in phase["parts"] if part["name"] == "prefill"]
    assert sum(part["again_j"] or 0.0 for part in spent["parts"]) == pytest.approx(again[0]) and again[0] > 0.0
    assert " again " not in said(energy, folder, "--a", "options.num_gpu_blocks=5000", "--a", "max_num_seqs=64")


def test_diff_report_and_advice_say_so(folder: Path, tmp_path: Path) -> None:
    """A diff names it as a cause; whoever is advised to run with a full cache is told."""
    more = ("--b", "options.num_gpu_blocks=5000", "--b", "max_num_seqs=64")
    compared = said(diff, folder, *FEW, *more)
    assert "A: the KV cache was full" in compared and "B: the KV cache was full" not in compared
    assert "less work done again after preemption" in compared or "work done again" in compared
    page = tmp_path / "report.html"
    said(report, folder, "-o", page)
    assert "the KV cache was full" in page.read_text()
    few = tmp_path / "few"
    shutil.copytree(folder, few)
    for name in ("r2", "r3"):
        shutil.rmtree(few / "runs" / name)
    told = said(advise, few)
    assert "batch 64: the KV cache was full" in told and "rejoule advise on runs" not in told


def test_many_configurations_are_one_note_and_workloads_are_not_pooled(folder: Path) -> None:
    """In ``energy`` and the report; a diff of several workloads says of each how full it was."""
    whole = said(energy, folder)
    assert whole.count("the KV cache was full") == 1 and "batch 64, 330 KV blocks: the KV cache was full" in whole
    (workload,) = gather(load_runs(folder).runs, {})
    assert sum("the KV cache was full" in note for note in doubts(workload)) == 1
    full, roomy = tight(), tight(blocks=5000)
    pairs = [Pair(replace(full, trace=name), replace(roomy, trace=name)) for name in ("one", "other")]
    notes = [note for note in pair_notes(pairs) if "the KV cache was full" in note]
    assert [note.partition(": the")[0] for note in notes] == ["A, one", "A, other"]


@pytest.fixture(scope="module")
def without_client(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A profile whose API server takes no time: nothing but the engine's steps decides when a call is there."""
    body = msgspec.to_builtins(load_profile("h200-data-sheet-llama-3.1-8b"))
    body["timing"] |= {name: 0.0 for name in body["timing"] if name.startswith("api_")}
    path: Path = tmp_path_factory.mktemp("profile") / "plain.json"
    path.write_bytes(orjson.dumps(body))
    return str(path)


def composition(run: Run) -> list[object]:
    return [(s.prefill, s.preempted) for s in run.steps or () if s.prefill or s.preempted]


@pytest.mark.parametrize("seed", range(1, 5))
def test_who_is_preempted_does_not_depend_on_the_clock_where_all_is_there_at_once(
    seed: int, without_client: str
) -> None:
    """Calls that wait for nothing but the engine stay for as many steps at any clock: only their length differs."""
    trace = trace_of(CROWD, seed)
    first = replace(trace, workflows=tuple(replace(w, calls=w.calls[:1], edges=()) for w in trace.workflows))
    knobs = replace(BASE, profile=without_client, options={"num_gpu_blocks": 160})
    fast, slow = (run_of(first, replace(knobs, sm_clock_mhz=clock)) for clock in (None, SLOW_MHZ))
    assert any(call.preemptions for call in fast.calls)
    assert composition(fast) == composition(slow)
    assert slow.makespan_s > fast.makespan_s


def test_lower_clocks_preempt_more_and_take_more_joules_where_calls_keep_arriving() -> None:
    """A slower engine has more of them at once: past what the cache holds, few blocks cost more the lower the clock."""
    stream = Shape(workflows=30, apart_ms=450.0, shared=200, tool_ms=0.0)

    def mean_of(clock: float | None, blocks: int) -> tuple[float, float]:
        runs = [tight(seed, blocks, stream, arrivals="recorded", sm_clock_mhz=clock) for seed in range(3)]
        lost = [found.preemptions for run in runs if (found := preempted(run)) is not None]
        return fmean(lost), fmean(run.energy.gpu_j or 0.0 for run in runs)

    (fast, fast_j), (slow, slow_j) = mean_of(None, 330), mean_of(SLOW_MHZ, 330)
    (_, fast_roomy_j), (_, slow_roomy_j) = mean_of(None, 5000), mean_of(SLOW_MHZ, 5000)
    assert slow > 2 * fast
    assert slow_j / slow_roomy_j > 1.05 * fast_j / fast_roomy_j
