"""Takes joules that were not known from what the sampler wrote: python -m benchmarks.gpu.remeasure RUNS …

For run folders with their samples, measured before the law by which joules are made of samples was mended. A run that
does not say when it began on the sampler's clock is found by its steps in what the server's tap wrote. Runs whose
joules are known stay as they are, and so does idle power before and after a run.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from rejoule.replay.energy.gpus import UNKNOWN, gpu_run
from rejoule.replay.energy.samples import read_samples
from rejoule.replay.energy.window import MARGIN_S, measure
from rejoule.replay.protocol.rejection import judged
from rejoule.replay.vllm.plugin.tap import read_tap
from rejoule.traces.run import Conditions, Run
from rejoule.traces.runs import load_runs, save_run

FEW: Final = 50
"""Steps by which a run is found."""
ALIKE_S: Final = 1e-6
MEASURED: Final = ("sm_clock_mhz", "thermal_s", "brake_s", "sampler")
"""What of the conditions is taken from samples, beside what is the same anyway."""


def began_s(run: Run, taps: Sequence[Path]) -> float | None:
    """When a run began on the machine's monotonic clock; ``None`` if neither it nor a tap says so."""
    if run.conditions is not None and "start_s" in run.conditions.sampler:
        return run.conditions.sampler["start_s"]
    ended_s = np.array([s.end_s for s in run.steps or () if s.prefill or s.decode][:FEW])
    for tap in taps if len(ended_s) else ():
        processed_s = np.array([step.processed_ns / 1e9 for step in read_tap(tap)])
        for first_s in processed_s - ended_s[0]:
            place = np.clip(np.searchsorted(processed_s, first_s + ended_s - ALIKE_S), 0, len(processed_s) - 1)
            if (np.abs(processed_s[place] - first_s - ended_s) < ALIKE_S).all():
                return float(first_s)
    return None


def remeasured(run: Run, samples: Path, start_s: float) -> Run:
    """The run with its joules, readings and conditions by the present law. Raises RejouleError for damaged samples."""
    held, end_s = run.conditions or Conditions(), start_s + run.makespan_s
    read = read_samples(samples, start_s - MARGIN_S, end_s + MARGIN_S)
    calls = [(call.sent_s, call.end_s) for call in run.calls]
    found = gpu_run(read, measure(read, start_s, end_s), (start_s, end_s), calls, held.foreign_processes, ())
    measured = {name: getattr(found.conditions, name) for name in MEASURED}
    stays = (reason for reason in held.rejected if not reason.startswith(UNKNOWN))
    conditions = replace(held, **measured, rejected=(*stays, *found.conditions.rejected))
    energy = replace(found.energy, cpu_j=run.energy.cpu_j, dram_j=run.energy.dram_j)
    cap = replace(run.power_cap, in_force_w=found.power_cap.in_force_w, bound_fraction=found.power_cap.bound_fraction)
    return judged(replace(run, energy=energy, readings=found.readings, power_cap=cap, conditions=conditions))


def main(folders: Sequence[str]) -> None:
    for folder in map(Path, folders):
        taps = sorted((folder / "servers").glob("*.tap"))
        files = sorted((folder / "samples").glob("*.samples"))
        if len(files) != 1:
            sys.exit(
                f"{folder} has {len(files)} files of samples, and one is needed: leave that of its runs alone there"
            )
        for run in load_runs(folder).runs:
            if run.energy.gpu_j is not None:
                continue
            start_s = began_s(run, taps)
            if start_s is None:
                print(f"{run.id}: when it began is not known; left as it was")
                continue
            now = remeasured(run, files[0], start_s)
            place, before = folder / "runs" / run.id, folder / "runs" / f".{run.id}.before"
            place.rename(before)
            try:
                save_run(folder, now)
            except BaseException:
                before.rename(place)
                raise
            shutil.rmtree(before)
            joules = now.energy.gpu_j
            told = "not known still" if joules is None else f"{joules:.1f} ± {now.energy.uncertainty_j['gpu']:.1f} J"
            print(f"{run.id}: {told}")


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    main(sys.argv[1:])
