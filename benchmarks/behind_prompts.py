"""How long the decode step behind a prompt lasts on one GPU: python -m benchmarks.behind_prompts.

Of prompts that are launched kernel by kernel, so that the GPU waits for the host: what the step behind them, one CUDA
graph, takes longer than the latency model says that the GPU needs for it, and what decode steps elsewhere do. Once of
the kept runs of H200s, and once of runs that are simulated, where the model is right elsewhere by its making.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import fsum
from statistics import median
from typing import Final, NamedTuple

from benchmarks.new_sizes import FOLDERS, plain
from benchmarks.validation import BATCHES, BLOCKS, DATA, PROFILE, ran, simulated

from rejoule.replay.calibration.observations import observed_steps
from rejoule.replay.sim.latency import LatencyModel
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import load_runs

CAP_W: Final = 350.0
"""Of the cap under which runs are simulated, too: steps near a limit are simulated one by one."""
SHORT_MS: Final = 1.0


class Beyond(NamedTuple):
    """By how many ms a decode step lasted longer than the GPU needs for it, alone or on the mean of equal ones."""

    ms: float
    behind: bool
    """Whether it follows a prompt that was computed once it was launched; otherwise it follows a decode step."""


def beyond(runs: Iterable[Run], profile: Profile) -> Iterator[Beyond]:
    """Steps that prompts follow are left out, as those seem to last as long as the launches."""
    for run in runs:
        steps = list(observed_steps(run))
        for before, step, behind, then in zip(steps, steps[1:], steps[2:], steps[3:], strict=False):
            model = LatencyModel(profile, behind.seats)
            held = before.work.prefills or behind.work.prefills or then.work.prefills
            if held or any(each.work.first for each in (step, behind, then)):
                continue
            prompts, tokens = step.work.prefills, step.work.prefill_tokens + step.work.decodes
            top_mhz = profile.gpu.max_clock_mhz
            gpu_s = model.time(model.demand(step.work), step.clock_mhz or top_mhz).gpu_s
            if prompts and (tokens <= model.captured_tokens or gpu_s > before.each_s):
                continue
            decode_s = model.time(model.demand(behind.work), behind.clock_mhz or top_mhz).gpu_s
            yield Beyond(1e3 * (behind.each_s - decode_s), prompts > 0)


def capped() -> list[Run]:
    """The kept workloads, simulated under a cap."""
    traces = load_runs(DATA / "workloads").traces
    knobs = Configuration(profile=PROFILE, power_cap_w=CAP_W, arrivals="burst", options={"num_gpu_blocks": BLOCKS})
    return [ran(trace, replace(knobs, max_num_seqs=batch)) for trace in traces.values() for batch in BATCHES]


def row(name: str, runs: Sequence[Run], profile: Profile) -> None:
    found = list(beyond(runs, profile))
    behind, others = ([each.ms for each in found if each.behind is one] for one in (True, False))
    if behind and others:
        short = [ms for ms in behind if ms < -SHORT_MS]
        lacking = 1e-3 * abs(fsum(short)) / fsum(run.makespan_s for run in runs)
        medians = f"{median(behind):+.2f} | {median(others):+.2f}"
        print(f"| {name} | {len(behind)} | {medians} | {len(short) / len(behind):.0%}, {lacking:.2%} |", flush=True)


def main() -> None:
    profile = load_profile(PROFILE)
    print("Decode steps, over what the GPU needs for them, median in ms\n")
    print(f"| | behind prompts | over the GPU's time | elsewhere | over {SHORT_MS:g} ms less, of the runs' time |")
    print("| --- | --: | --: | --: | --: |")
    for name, folders in FOLDERS.items():
        row(name, plain(run for folder in folders for run in load_runs(DATA / folder).runs), profile)
    row("simulated", simulated(), profile)
    row(f"simulated, {CAP_W:.0f} W", capped(), profile)


if __name__ == "__main__":
    main()
