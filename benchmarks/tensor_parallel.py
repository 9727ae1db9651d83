"""What the simulator is worth on two GPUs: python -m benchmarks.tensor_parallel [FOLDER] [--profile P] [--stand-in].

FOLDER is what ``gpu/tensor_parallel.sh`` made, or ``benchmarks/h200`` with the same folders kept. Its workloads are
held against simulated ones: by the profile of one GPU put on two, and by that fitted to its grid, if there is one.
Joules of the GPUs are summed beside the run's. What is not there is said. ``--stand-in`` takes simulated runs, of two
GPUs with slower links, in place of measured ones, which proves the way and nothing about a GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from math import fsum
from pathlib import Path
from typing import Final

from benchmarks.validation import BLOCKS, DATA, ran
from msgspec.structs import replace as changed

from rejoule.analysis.validate import validate
from rejoule.replay.calibration.calibrate import calibrate, write_profile
from rejoule.replay.engines.sim import OPTIONS
from rejoule.replay.sim.shipped import load_profile
from rejoule.replay.sim.tensor_parallel import on_gpus
from rejoule.traces.by_gpu import by_gpu
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import load_runs

FOLDERS: Final = ("tp2", "tp2-few")
GRID: Final = "grid"
"""The trace of which both runs are fitted."""
PROFILE: Final = "h200-llama-3.1-8b"
AIMS: Final = {"workflow time": 0.05, "time to first token, mean": 0.15, "GPU energy": 0.05}
SIGNS: Final = 0.95
TOLERANCE: Final = 1e-6
"""By how much joules of the GPUs may differ from the run's, relative: rounding."""


def judged(measured: Sequence[Run], profile: str) -> None:
    """Prints the errors of the simulated runs, and of their differences."""
    found = validate(simulated(measured, profile), measured)
    print(f"\nsimulated by {profile}\n\n| | mean error | mean \\|error\\| | worst | where | aim | met |")
    print("| --- | --: | --: | --: | --- | --: | --- |")
    for row in found.rows:
        aim = AIMS.get(row.metric)
        met = "" if aim is None else "yes" if row.mape <= aim else "no"
        where = f"{row.worst.trace}, {row.worst.configuration}"
        shown = "" if aim is None else f"{aim:.0%}"
        print(
            f"| {row.metric} | {row.bias:+.1%} | {row.mape:.1%} | {row.worst.error:+.1%} | {where} | {shown} | {met} |"
        )
    if found.agreement is None:
        print("\nno difference exceeds its noise")
    else:
        agree = sum(d.agrees for d in found.decisive)
        met = "met" if found.agreement >= SIGNS else "missed"
        print(f"\n{agree} of {len(found.decisive)} signs agree; aim {SIGNS:.0%}: {met}")
    for note in found.notes:
        print(f"note: {note}")


def simulated(measured: Sequence[Run], profile: str) -> list[Run]:
    """The configurations of measured runs, on the simulated engine."""
    traces = load_runs(DATA / "workloads").traces
    found = {}
    for run in measured:
        given = run.configuration
        options = {name: value for name, value in given.options.items() if name in OPTIONS}
        found[run.trace, given.max_num_seqs, given.concurrency, str(options)] = Configuration(
            profile=profile,
            max_num_seqs=given.max_num_seqs,
            concurrency=given.concurrency,
            arrivals=given.arrivals,
            options=options,
        )
    return [ran(traces[key[0]], knobs, key[0], f"{at}") for at, (key, knobs) in enumerate(found.items())]


def summed(measured: Sequence[Run]) -> None:
    """Prints whether the joules of the GPUs are those of the run."""
    told = [(run, by_gpu(run)) for run in measured]
    known = [(run, gpus) for run, gpus in told if gpus and not gpus[0].assumed]
    if not known:
        print("\njoules of each GPU: not known of any run")
        return
    sums = [(run.energy.gpu_j or 0.0, fsum(g.energy_j for g in gpus)) for run, gpus in known]
    off = max(abs(each / whole - 1) for whole, each in sums)
    shares = [gpus[0].energy_j / fsum(g.energy_j for g in gpus) for _, gpus in known]
    verdict = "yes" if off <= TOLERANCE else "no"
    print(
        f"\njoules of the GPUs add up to the run's in {len(known)} of {len(told)} runs: {verdict} (off by {off:.1e} at "
        f"most); the first one's share is {min(shares):.1%} to {max(shares):.1%}"
    )


def stand_in(out: Path) -> list[Run]:
    """Simulated runs as if they had been measured, on GPUs whose links are slower than the data sheet's."""
    two = on_gpus(load_profile(PROFILE), 2)
    path = out / "stand-in.json"
    slow = {"all_reduce_s": 7e-6, "nccl_s": 2.4e-5, "nccl_efficiency": 0.45, "host_workers_s": 5e-4}
    write_profile(changed(two, timing=changed(two.timing, **slow)), path)
    traces = load_runs(DATA / "workloads").traces
    runs = []
    for name in sorted(traces):
        for batch in (64, 8, 1):
            for off in (True, False):
                options = {"num_gpu_blocks": BLOCKS, "tensor_parallel_size": 2, "disable_custom_all_reduce": off}
                knobs = Configuration(
                    profile=str(path), max_num_seqs=64, concurrency=batch, arrivals="burst", options=options
                )
                run = ran(traces[name], knobs, name, f"{name}-{batch}-{off}")
                knobs = replace(knobs, engine="vllm", profile=None)
                energy = replace(run.energy, source={"gpu": "nvml-counter"})
                engine = {"tensor_parallel_size": 2, "num_gpu_blocks": BLOCKS}
                runs.append(replace(run, configuration=knobs, energy=energy, engine=engine))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DATA)
    parser.add_argument("--profile", default=PROFILE)
    parser.add_argument("--out", type=Path, default=Path(), help="where profiles are written")
    parser.add_argument("--stand-in", action="store_true")
    given = parser.parse_args()
    there = [given.folder / name for name in FOLDERS if (given.folder / name).is_dir()]
    if given.stand_in:
        print("no GPU was measured: runs simulated with slower links stand in")
        runs: Sequence[Run] = stand_in(given.out)
    elif not there:
        print(f"{given.folder / FOLDERS[0]} is not there: benchmarks/gpu/tensor_parallel.sh measures it")
        return
    else:
        runs = [run for folder in there for run in load_runs(folder).runs]
    grids, measured = ([run for run in runs if (run.trace == GRID) is one] for one in (True, False))
    summed(runs)
    judged(measured, given.profile)
    if not grids:
        print("\nno grid on two GPUs, so no profile is fitted to one")
        return
    fitted = given.out / "tp2-fitted.json"
    write_profile(calibrate(load_profile(given.profile), fitted.stem, grids).profile, fitted)
    judged(measured, str(fitted))


if __name__ == "__main__":
    main()
