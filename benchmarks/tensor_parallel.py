"""What the simulator is worth on two GPUs: python -m benchmarks.tensor_parallel [FOLDER] [--profile P] [--write].

FOLDER is what ``gpu/tensor_parallel.sh`` made, or ``benchmarks/h200`` with the same folders kept. Its workloads are
held against simulated ones: by the profile of one GPU put on two with the links of its data sheet, and by that fitted
to the grid, if there is one. Joules of the GPUs are summed beside the run's, and so are those of nodes, idle times and
the rest. What is not there is said. ``--write`` ships the fitted profile, with how far off it is on the workloads, none
of which it was fitted to; the widths of its clock curve are written by ``benchmarks.voltage_curve --write``.
``--stand-in`` takes simulated runs, of two GPUs with slower links, in place of measured ones, which proves the way and
nothing about a GPU.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import fsum
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.differences import difference_errors, errors, figures
from benchmarks.engine_options import expected, ratios
from benchmarks.validation import BLOCKS, DATA, ran
from msgspec.structs import replace as changed

from rejoule import attribute
from rejoule.analysis.summary.summary import trials
from rejoule.analysis.validate import Validation, validate
from rejoule.replay.calibration.calibrate import calibrate, write_profile
from rejoule.replay.calibration.fit import SHARED
from rejoule.replay.calibration.observations import ObservedStep, observed_steps
from rejoule.replay.engines.sim import OPTIONS
from rejoule.replay.sim.latency import LatencyModel
from rejoule.replay.sim.profile import ExpectedError, FigureError, Profile
from rejoule.replay.sim.shipped import FOLDER, load_profile
from rejoule.replay.sim.tensor_parallel import spread
from rejoule.traces.by_gpu import by_gpu
from rejoule.traces.engine_options import NCCL_ALONE
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import load_runs

FOLDERS: Final = ("tp2", "tp2-few")
GRID: Final = "grid"
"""The trace of which both runs are fitted."""
PROFILE: Final = "h200-llama-3.1-8b"
AIMS: Final = {"workflow time": 0.05, "time to first token, mean": 0.15, "GPU energy": 0.05}
SIGNS: Final = 0.95
SHIPPED: Final = "h200-llama-3.1-8b-tp2"
LEAST: Final = 12
"""Differences below which no error is stated for a figure: one for each pair of loads."""
TOLERANCE: Final = 1e-6
"""By how much joules of the GPUs may differ from the run's, relative: rounding."""


def judged(sim: Sequence[Run], measured: Sequence[Run], profile: str) -> Validation:
    """Prints the errors of the simulated runs, and of their differences."""
    found = validate(sim, measured)
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
    return found


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


def added_up(measured: Sequence[Run]) -> None:
    """Prints whether joules by node, and those that no call owes, are those of the run."""
    told = [(run, found) for run in measured if (found := attribute(run)) is not None]
    if not told:
        print("\njoules by node: not known of any run")
        return
    lines = [
        fsum((*(e.total_j for e in found.by_node().values()), *found.without_work().values())) for _, found in told
    ]
    off = max(abs(line / (run.energy.gpu_j or 0.0) - 1) for line, (run, _) in zip(lines, told, strict=True))
    idle = [found.idle_j / found.gpu_j for _, found in told]
    withheld = [f"{run.id}: {found.withheld}" for run, found in told if found.withheld]
    verdict = "yes" if off <= TOLERANCE else "no"
    print(
        f"\njoules by node, idle and of no step add up to the run's in {len(told)} of {len(measured)} runs: {verdict} "
        f"(off by {off:.1e} at most); idle are {min(idle):.1%} to {max(idle):.1%}"
    )
    print(f"joules by node withheld: {'; '.join(withheld) or 'of none'}")


def beside_prompts(runs: Sequence[Run]) -> None:
    """Prints how long decode steps take before prompts that are launched kernel by kernel, behind them, and elsewhere,
    on one GPU and on two."""
    print("\n| median of decode steps, ms | before a launch | behind it | others |\n| --- | --: | --: | --: |")
    for name, found in (("one GPU, its grid", load_runs(DATA / "grid").runs), ("two GPUs", runs)):
        seen = defaultdict(list)
        for run in found:
            for before, step, behind in zip(steps := list(observed_steps(run)), steps[1:], steps[2:], strict=False):
                if step.work.prefills or step.work.first or step.steps > 1:
                    continue
                place = "behind" if _launched(before) else "before" if _launched(behind) else "others"
                seen[place].append(1e3 * step.duration_s)
        print(f"| {name} | {' | '.join(f'{median(seen[place]):.1f}' for place in ('before', 'behind', 'others'))} |")


def _launched(step: ObservedStep) -> bool:
    """Kernel by kernel."""
    return step.work.prefills > 0 and step.work.prefill_tokens + step.work.decodes > _captured(step.seats)


@cache
def _captured(seats: int | None) -> int:
    return LatencyModel(load_profile(PROFILE), seats).captured_tokens


def exchange(profile: Profile) -> None:
    """Prints what the fit says of links and workers, and how well it knows it."""
    print("\n| | found | known |\n| --- | --: | --- |")
    for name in SHARED:
        value, told = getattr(profile.timing, name), profile.sources[f"timing.{name}"]
        print(f"| {name} | {value:.0%} | {told} |" if value > 0.01 else f"| {name} | {1e6 * value:.1f} us | {told} |")
    print(f"| link_w | {profile.power.link_w:.0f} W | {profile.sources['power.link_w']} |")


def known_errors(sim: Sequence[Run], measured: Sequence[Run], found: Validation) -> ExpectedError:
    """How far off figures were, and differences between numbers of calls at a time and in the way to exchange."""
    pairs: dict[str, list[float]] = {}
    own = [
        {
            (run.trace, run.configuration.concurrency): figures(trials([run]))
            for run in runs
            if not run.configuration.options.get(NCCL_ALONE)
        }
        for runs in (sim, measured)
    ]
    for group, _, error in errors(*own):
        pairs.setdefault(group, []).append(error)
    turned = [
        {
            (run.trace, f"{NCCL_ALONE}=true" if run.configuration.options.get(NCCL_ALONE) else ""): figures(
                trials([run])
            )
            for run in runs
            if run.configuration.concurrency is None
        }
        for runs in (sim, measured)
    ]
    return ExpectedError(
        source="python -m benchmarks.tensor_parallel: predicted against measured ratios between 1, 8 and any number of "
        "calls at a time, of four workloads at max_num_seqs 64 on two H200s at 700 W (benchmarks/h200/tp2, tp2-few), "
        "and their figures; the profile was fitted to none of them; one trial each",
        knobs=("concurrency",),
        differences=len(pairs["GPU energy"]),
        metrics=difference_errors(pairs, LEAST),
        options=expected(ratios(*turned)),
        figures={row.metric: FigureError(round(row.mape, 5), round(abs(row.worst.error), 5)) for row in found.rows},
    )


def stand_in(out: Path) -> list[Run]:
    """Simulated runs as if they had been measured, on GPUs whose links are slower than the data sheet's."""
    two = spread(load_profile(PROFILE), 2)
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=DATA)
    parser.add_argument("--profile", default=PROFILE)
    parser.add_argument("--out", type=Path, default=Path(), help="where profiles are written")
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"ship what is fitted as {SHIPPED}")
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
    added_up(runs)
    beside_prompts(runs)
    base = load_profile(given.profile)
    base = spread(base, 2) if base.tensor_parallel == 1 else base
    before = given.out / "tp2-before.json"
    write_profile(base, before)
    judged(simulated(measured, str(before)), measured, base.name)
    if not grids:
        print("\nno grid on two GPUs, so no profile is fitted to one")
        return
    fitted = given.out / "tp2-fitted.json"
    profile = served(calibrate(base, SHIPPED, grids, measured).profile, base)
    exchange(profile)
    write_profile(profile, fitted)
    sim = simulated(measured, str(fitted))
    found = judged(sim, measured, f"{profile.name}, fitted to the grid")
    if given.write:
        write_profile(changed(profile, expected_error=known_errors(sim, measured, found)), FOLDER / f"{SHIPPED}.json")


def served(fitted: Profile, base: Profile) -> Profile:
    """What was ``fitted`` as vLLM would serve it, not as the grid's server was; to who takes it, of another's cards.

    How wide its clock curve is, the table of one GPU does not say.
    """
    curve = fitted.clock_curve
    curve = curve and changed(curve, own_card=False, caps=(), clocks=())
    return changed(fitted, serving=base.serving, clock_curve=curve)


if __name__ == "__main__":
    main()
