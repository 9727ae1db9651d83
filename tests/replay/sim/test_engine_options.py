"""vLLM's options about graphs, scheduling and memory do on the simulated engine what they do on vLLM."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from benchmarks.engine_options import by_cell, serial_s, simulated
from benchmarks.validation import DATA, PROFILE

from rejoule.analysis.validate import validate
from rejoule.replay.engines.sim import OPTIONS, check_sim
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.engine import StepEngine
from rejoule.replay.sim.jobs import SimRequest
from rejoule.replay.sim.latency import Work
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces import RejouleError
from rejoule.traces.engine_options import DEFAULTS
from rejoule.traces.run import Configuration
from rejoule.traces.runs import load_runs

H200 = EngineConfig(load_profile(PROFILE), max_num_seqs=64)
DECODE = Work(decodes=8, decode_context=8000)


def step_s(config: EngineConfig, work: Work = DECODE) -> float:
    latency = config.latency()
    return latency.time(latency.demand(work), 1980).step_s


def test_without_graphs_every_step_is_launched_kernel_by_kernel() -> None:
    """A decode takes what the host needs for its kernels, 15 to 25 ms, instead of 5; tokens are not padded."""
    eager = replace(H200, enforce_eager=True)
    assert step_s(H200) < 0.006 and 0.015 < step_s(eager) < 0.025
    few = replace(H200, cudagraph_capture_sizes=(4, 1))
    assert step_s(few) == step_s(eager)
    assert step_s(few, DECODE._replace(decodes=3)) < 0.006


def test_without_asynchronous_scheduling_the_host_is_not_hidden() -> None:
    """Each step is longer by what the host does meanwhile, for each request too, and draws idle power for so long."""
    timing = H200.profile.timing
    assert timing.host_serial_s is not None
    for decodes in (1, 27):
        work = DECODE._replace(decodes=decodes)
        longer_s = step_s(replace(H200, async_scheduling=False), work) - step_s(H200, work)
        assert longer_s == pytest.approx(timing.host_serial_s + decodes * timing.host_per_request_s)
    watts = []
    for ahead in (True, False):
        engine = StepEngine(replace(H200, async_scheduling=ahead))
        engine.add(SimRequest("a", list(range(64)), 200))
        while engine.advance():
            pass
        watts.append(engine.log.energy_j / engine.now_s)
    assert watts[1] < 0.85 * watts[0]


@pytest.mark.parametrize(("dtype", "ratio"), [("auto", 1), ("bfloat16", 1), ("fp8", 2), ("fp8_e5m2", 2)])
def test_smaller_keys_and_values_move_fewer_bytes_and_fit_more_blocks(dtype: str, ratio: int) -> None:
    config = replace(H200, kv_cache_dtype=dtype)
    assert config.latency().demand(DECODE).cache_s == pytest.approx(H200.latency().demand(DECODE).cache_s / ratio)
    assert config.pool().capacity + 1 == ratio * (H200.pool().capacity + 1)
    assert replace(config, num_gpu_blocks=50).pool().capacity == 49


def test_memory_is_counted_in_blocks() -> None:
    """Bytes are divided by those of a block; a share is what is left of the GPU's memory beside the weights."""
    model = H200.profile.model
    block_bytes = 16 * model.kv_bytes_per_token
    assert replace(H200, kv_cache_memory_bytes=int(1000 * block_bytes)).pool().capacity + 1 == 1000
    half, whole = (replace(H200, gpu_memory_utilization=u).pool().capacity for u in (0.5, 1.0))
    assert (whole - half) == pytest.approx(0.5 * H200.profile.gpu.memory_bytes / block_bytes, abs=2)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"kv_cache_dtype": "int3"}, "no kv_cache_dtype 'int3' is modelled"),
        ({"gpu_memory_utilization": 1.5}, "take a share"),
        ({"gpu_memory_utilization": 0.05}, "leaves no memory"),
        ({"kv_cache_memory_bytes": 10}, "too little for two blocks"),
        ({"kv_cache_memory_bytes": 10**12}, "more than the NVIDIA H200 has"),
        ({"kv_cache_memory_bytes": 10**10, "num_gpu_blocks": 9}, "both say how much"),
        ({"enforce_eager": True, "cudagraph_capture_sizes": [1]}, "leave one of them out"),
        ({"cudagraph_capture_sizes": [0]}, "cudagraph_capture_sizes is 0"),
        ({"enforce_eager": 1}, "is not bool"),
        ({"cudagraph_capture_sizes": 8}, "is not"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any], what: str) -> None:
    with pytest.raises(RejouleError, match=what):
        check_sim(Configuration(options=options))


def test_a_profile_that_does_not_know_a_cost_refuses_the_option() -> None:
    """Launches kernel by kernel are not taken to be free where nobody measured them."""
    with pytest.raises(RejouleError, match="does not know what steps without CUDA graphs cost"):
        check_sim(Configuration(profile="a100-llama-3.1-8b", options={"enforce_eager": True}))


def test_every_option_has_a_type_and_a_default() -> None:
    assert set(OPTIONS) == set(DEFAULTS)


def test_changes_by_options_are_those_of_an_h200() -> None:
    """Each setting that vLLM was measured at: energy and times within 16 %, and the signs of all decisive changes."""
    measured = [run for run in load_runs(DATA / "options").runs if run.trace in ("composite", "sequential")]
    sim = simulated(names=("composite", "sequential"))
    assert by_cell(sim).keys() == by_cell(measured).keys()
    found = validate(sim, measured)
    for row in found.rows:
        if row.metric in ("GPU energy", "workflow time", "makespan", "time between tokens"):
            assert len(row.cells) == 14 and abs(row.worst.error) < 0.16
    assert (found.agreement or 0) > 0.95


def test_what_is_serial_is_what_steps_without_asynchronous_scheduling_took_longer() -> None:
    """The profile's constant is that of agentic and sequential, and composite and interactive say the same to 5 %."""
    runs, profile = load_runs(DATA / "options").runs, load_profile(PROFILE)
    held = profile.timing.host_serial_s
    fitted = serial_s([run for run in runs if run.trace in ("agentic", "sequential")], profile)
    others = serial_s([run for run in runs if run.trace in ("composite", "interactive")], profile)
    assert fitted == pytest.approx(held, rel=1e-3) and others == pytest.approx(held, rel=0.05)
