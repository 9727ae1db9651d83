"""The calibration grid visits its cells one after another, on any engine."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import pytest
from tests.replay.calibration.made import PROFILE, SMALL, simulated

from rejoule.replay.calibration.grid import Limits, grid
from rejoule.replay.exactness.requests import exact_body
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.check import problems
from rejoule.traces.run import Run
from rejoule.traces.store import trace_digest


@pytest.fixture(scope="module")
def run() -> Run:
    return simulated()


def test_the_grid_is_a_sound_trace_and_the_same_for_the_same_seed() -> None:
    trace = grid(load_profile(PROFILE), SMALL)
    assert problems(trace) == []
    assert trace_digest(trace) == trace_digest(grid(load_profile(PROFILE), SMALL))
    assert trace_digest(trace) != trace_digest(grid(load_profile(PROFILE), SMALL, seed=1))


def test_cells_never_overlap_and_the_gpu_idles_between_them(run: Run) -> None:
    cells: dict[str, list[float]] = defaultdict(list)
    for call in run.calls:
        cells[call.node] += [call.sent_s, call.end_s]
    ordered = sorted((min(times), max(times)) for times in cells.values())
    assert all(begun - ended >= SMALL.gap_s - 1e-9 for (_, ended), (begun, _) in pairwise(ordered))


def test_decode_cells_find_their_prompts_in_the_cache_and_last_as_long_as_asked(run: Run) -> None:
    node = {call.id: call.node for call in run.calls}
    seconds: dict[str, float] = defaultdict(float)
    computed: dict[str, int] = defaultdict(int)
    for step in run.steps or ():
        for call, new, _ in step.prefill:
            computed[node[call]] += new
        if step.decode:
            seconds[node[step.decode[0][0]]] += step.end_s - step.start_s
    decoding = [cell for cell in seconds if cell.startswith("decode-")]
    assert len(decoding) > 10
    assert all(seconds[cell] > 0.8 * SMALL.cell_s for cell in decoding)
    assert all(computed[cell] <= 16 * int(cell.split("-")[1][1:]) for cell in decoding)


def test_a_small_server_gets_a_grid_that_fits_it() -> None:
    limits = Limits(max_num_seqs=3, max_model_len=2049, kv_tokens=8192, cell_s=0.01)
    trace = grid(load_profile(PROFILE), limits)
    assert all((c.prompt_tokens or 0) + (c.output_tokens or 0) <= 2049 for c in trace.calls)
    assert "decode-b3-c128" in trace.nodes
    assert not any("c8192" in node for node in trace.nodes)


def test_a_prompt_is_stored_once_and_sent_to_any_server() -> None:
    call = next(c for c in grid(load_profile(PROFILE), SMALL).calls)
    body = exact_body(call, output_tokens=5, input_scale=1.0, exact_lengths=True)
    assert "prompt" not in call.request
    assert body["prompt"] == list(call.prompt_token_ids or ())
