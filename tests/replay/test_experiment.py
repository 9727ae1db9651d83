"""Experiments on the simulated engine, into a run folder."""

from __future__ import annotations

import asyncio
import filecmp
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from math import fsum
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.replay.engines.open import open_engine
from rejoule.replay.experiment import check_traces, load_traces, run_experiment
from rejoule.replay.plan import Sweep, plan, swept
from rejoule.traces import RejouleError, Trace
from rejoule.traces.model import Workflow
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import Experiment, finished, held_alone, load_runs
from rejoule.traces.store import save, trace_digest
from rejoule.traces.testing import random_trace

SWEEP: Sweep = {"max_num_seqs": [1, 4], "power_cap_w": [None, 300]}


def planned(trace: Trace, sweep: Sweep = SWEEP, trials: int = 1, seed: int = 0) -> Experiment:
    return plan({"t": trace_digest(trace)}, list(swept(Configuration(), sweep)), trials=trials, seed=seed)


def ran(trace: Trace, folder: Path, experiment: Experiment) -> tuple[Run, ...]:
    asyncio.run(run_experiment(experiment, {"t": trace}, folder, open_engine))
    return load_runs(folder).runs


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_runs_add_up(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Every call is answered exactly; steps are contiguous, and their joules and tokens add up to the run's."""
    trace = random_trace(seed, workflows=4)
    for run in ran(trace, tmp_path_factory.mktemp("r") / "runs", planned(trace)):
        assert {c.id for c in run.calls} == {c.id for c in trace.calls}
        assert run.certificate.exact_calls == len(run.calls) and not run.certificate.violations
        assert run.steps is not None and run.energy.gpu_j is not None
        assert fsum(s.energy_j or 0 for s in run.steps) == pytest.approx(run.energy.gpu_j, rel=1e-12)
        assert all(a.end_s == b.start_s for a, b in zip(run.steps, run.steps[1:], strict=False))
        decoded = {c.id: 1 for c in run.calls}
        for step in run.steps:
            for call, tokens in step.decode:
                decoded[call] += tokens
        if not any(s.preempted for s in run.steps):
            assert decoded == {c.id: c.output_tokens for c in run.calls}


def test_work_is_equal_in_every_configuration(tmp_path: Path) -> None:
    """Certificates of one trace agree whatever the batch size and the cap."""
    trace = random_trace(7)
    assert len({run.certificate.digest for run in ran(trace, tmp_path / "r", planned(trace))}) == 1


def test_resume(tmp_path: Path) -> None:
    """An experiment that stopped is taken up: finished runs are neither lost nor made again."""
    trace, folder = random_trace(7), tmp_path / "r"
    experiment = planned(trace, trials=2)
    made: list[str] = []

    class StopError(Exception):
        pass

    def stop(run: Run) -> None:
        made.append(run.id)
        if len(made) == 3:
            raise StopError

    with pytest.raises(StopError):
        asyncio.run(run_experiment(experiment, {"t": trace}, folder, open_engine, on_run=stop))
    assert finished(folder) == set(made)
    asyncio.run(run_experiment(experiment, {"t": trace}, folder, open_engine, on_run=lambda run: made.append(run.id)))
    assert sorted(made) == sorted(r.id for r in experiment.runs)


def test_other_traces_are_refused(tmp_path: Path) -> None:
    """A folder holds runs of the same traces."""
    trace, folder = random_trace(7), tmp_path / "r"
    ran(trace, folder, planned(trace))
    with pytest.raises(RejouleError, match="on other traces"):
        ran(random_trace(8), folder, planned(random_trace(8)))


def test_experiments_grow(tmp_path: Path) -> None:
    """More trials and more values are added to what a folder holds, and nothing is run again."""
    trace, folder = random_trace(7), tmp_path / "r"
    few = {r.id for r in ran(trace, folder, planned(trace, {"max_num_seqs": [1]}))}
    many = {r.id for r in ran(trace, folder, planned(trace, {"max_num_seqs": [1, 2]}, trials=3))}
    assert len(few) == 1 and len(many) == 6 and few < many


def test_trials_differ_where_arrivals_are_drawn(tmp_path: Path) -> None:
    """Poisson arrivals are drawn anew for each trial, and alike in every configuration."""
    trace = random_trace(7, workflows=6)
    configurations = [Configuration(arrivals="poisson:30", max_num_seqs=n) for n in (1, 8)]
    experiment = plan({"t": trace_digest(trace)}, configurations, trials=2, seed=0)
    runs = ran(trace, tmp_path / "r", experiment)
    arrivals = {(r.configuration.max_num_seqs, r.trial): tuple(w.arrival_s for w in r.workflows) for r in runs}
    assert arrivals[1, 0] == arrivals[8, 0] != arrivals[1, 1] == arrivals[8, 1]


def test_order_is_shuffled_by_seed() -> None:
    """The order of runs depends on the seed, and every trial holds every configuration."""
    trace = random_trace(7)
    wide = {"max_num_seqs": list(range(1, 9))}
    one, other = planned(trace, wide, 2, 0), planned(trace, wide, 2, 1)
    assert one == planned(trace, wide, 2, 0)
    assert [r.id for r in one.runs] != [r.id for r in other.runs]
    assert {r.id for r in one.runs} == {r.id for r in other.runs}
    assert [r.trial for r in one.runs] == [0] * 8 + [1] * 8


def test_equal_bytes(tmp_path: Path) -> None:
    """Replaying one trace twice on sim, in processes with different hash seeds, gives equal folders byte for byte."""
    save(random_trace(11, workflows=6), tmp_path / "t.jsonl")
    for name, hash_seed in (("a", "1"), ("b", "2")):
        command = [
            sys.executable,
            "-m",
            "rejoule.replay",
            "replay",
            str(tmp_path / "t.jsonl"),
            "-o",
            str(tmp_path / name),
        ]
        command += ["--max-num-seqs", "1,4", "--power-cap", "none,300", "--arrivals", "poisson:20", "--json"]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    files = sorted(str(p.relative_to(tmp_path / "a")) for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) == 1 + 1 + 4 * 2
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", files, shallow=False) == (files, [], [])


def test_power_cap_lowers_power_and_speed(tmp_path: Path) -> None:
    """A cap that binds lowers the average power and makes the run longer; one that does not changes nothing."""
    trace = random_trace(7, workflows=40)
    sweep: Sweep = {"max_num_seqs": [64], "power_cap_w": [None, 200, 700]}
    free, bound, high = ran(trace, tmp_path / "r", planned(trace, sweep))
    assert bound.power_cap.bound_fraction and bound.power_cap.bound_fraction > 0
    busy = [sum(s.end_s - s.start_s for s in run.steps or () if not s.idle) for run in (free, bound)]
    power = [((r.energy.gpu_j or 0) - (r.energy.idle_j or 0)) / b for r, b in zip((free, bound), busy, strict=True)]
    assert power[1] < power[0] and busy[1] > busy[0]
    assert (free.energy.gpu_j, free.makespan_s) == (high.energy.gpu_j, high.makespan_s)


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    """Two replays into one folder: the second says that it waits, then takes up what the first has made."""
    save(random_trace(3, workflows=2, vertices=5), tmp_path / "t.jsonl")
    words = ["replay", "t.jsonl", "-o", "runs", "--max-num-seqs", "1,2,4", "--json"]
    command = [sys.executable, "-m", "rejoule.replay", *words]
    with ExitStack() as first:
        first.enter_context(held_alone(tmp_path / "runs"))
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as second:
            assert second.stderr is not None
            assert b"waiting for another ReJoule, which writes into runs" in next(
                line for line in second.stderr if b"waiting" in line
            )
            assert not (tmp_path / "runs" / "experiment.json").exists()
            first.close()
            said, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert said.count(b"\n") == len(load_runs(tmp_path / "runs").runs) == 3


def test_a_trace_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    """Before anything is written: plans and runs are called by it."""
    path = tmp_path / os.fsdecode(b"t\xff.jsonl")
    save(random_trace(3, workflows=1, vertices=3), path)
    with pytest.raises(RejouleError, match="is no UTF-8; rename the file"):
        load_traces([path])


def test_a_trace_without_calls_says_what_became_of_its_workflows() -> None:
    """Where the graph failed before any call, its error is named, and no server is blamed."""
    whole = random_trace(1)
    failed = [Workflow(w.id, w.graph, 0, 1, "failed", "ValueError: no key") for w in whole.workflows]
    with pytest.raises(RejouleError, match=r"failed, the first with ValueError: no key.*mend the graph"):
        check_traces({"t": replace(whole, workflows=tuple(failed))})
