"""What each GPU took adds up to what all did: by their counters, or in equal shares where a model knows a sum."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.analysis import builders

from rejoule.analysis.energy import as_json, spent
from rejoule.analysis.summary.facts import by_gpu_facts
from rejoule.traces.by_gpu import EQUAL, by_gpu
from rejoule.traces.run import Conditions, Reading, Run
from rejoule.traces.summary import summary

TRACE = builders.trace(3)


def measured() -> Run:
    """On two GPUs, of which the second takes twice what the first does, watched in tenths of the run."""
    run = builders.run(TRACE, 8, engine="vllm", energy_source="nvml-counter")
    total = run.energy.gpu_j or 0.0
    each, length_s = total / 10, run.makespan_s / 10
    readings = tuple(
        Reading(i * length_s, (i + 1) * length_s, each, gpus_j=(each / 3, 2 * each / 3)) for i in range(10)
    )
    return replace(run, readings=readings, conditions=Conditions(gpus=("GPU-a", "GPU-b")))


def test_counters_of_gpus_add_up_to_the_run() -> None:
    run = measured()
    first, second = by_gpu(run)
    assert (first.name, second.name, first.assumed) == ("GPU-a", "GPU-b", False)
    assert first.energy_j + second.energy_j == pytest.approx(run.energy.gpu_j)
    assert second.energy_j == pytest.approx(2 * first.energy_j)
    assert first.idle_j is None or 0.0 <= first.idle_j <= first.energy_j


def test_a_simulated_run_on_two_gpus_says_that_their_shares_are_assumed() -> None:
    run = builders.run(TRACE, 8)
    two = replace(run, engine={**run.engine, "gpus": 2})
    assert [gpu.energy_j for gpu in by_gpu(two)] == [pytest.approx((run.energy.gpu_j or 0.0) / 2)] * 2
    assert all(gpu.assumed for gpu in by_gpu(two)) and by_gpu(run) == ()
    (fact,) = by_gpu_facts(by_gpu(two), two.energy.gpu_j)
    assert EQUAL in fact[1]


def test_a_measured_run_whose_gpus_were_read_together_tells_none_of_them() -> None:
    run = measured()
    together = tuple(replace(reading, gpus_j=()) for reading in run.readings or ())
    assert by_gpu(replace(run, readings=together, engine={"tensor_parallel_size": 2})) == ()


def test_table_and_json_tell_of_each_gpu() -> None:
    run = measured()
    (found,) = spent([run])
    assert [gpu["name"] for gpu in as_json(found)["gpus"]] == ["GPU-a", "GPU-b"]
    assert sum(gpu["energy_j"] for gpu in summary(run)["gpus"]) == pytest.approx(run.energy.gpu_j)
    assert [gpu.energy_j for gpu in found.gpus] == [gpu.energy_j for gpu in by_gpu(run)]
