"""Prints what scheduling policies and waves did on a GPU, and what the simulator says of them.

    python -m benchmarks.gpu.policies [FOLDER]

FOLDER holds ``policies`` and ``batching`` as policies.sh writes them; without one, it is what is kept of an H200. Each
setting is replayed in virtual time too, and its change against the first setting stands beside the measured one; then
how far off the simulator's own figures are. Both folders are of one host: that is said once more of the policies with
launches as much longer than in the profile's grid as they were in ``batching``, which foretells the host and nothing
of the policies.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.gpu.sensors import row
from benchmarks.gpu.tables import DATA, spread
from benchmarks.mix import mix
from benchmarks.validation import PROFILE, launches_ms, ran
from msgspec.structs import replace as changed

from rejoule.analysis.diff import compare
from rejoule.analysis.pairing import pair
from rejoule.analysis.validate import Validation, validate
from rejoule.replay.calibration.calibrate import write_profile
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.model import Trace
from rejoule.traces.run import STATIC, Run
from rejoule.traces.runs import RunFolder, load_runs

COPIES: Final = 3
SEED: Final = 1
BLOCKS: Final = "num_gpu_blocks"
TIMES: Final = ("GPU energy", "makespan", "workflow latency p50", "workflow latency p99")
LAUNCHES: Final = ("host_per_step_s", "host_per_request_s", "host_prefill_s", "host_eager_s")
SHARED: Final = ("cached tokens", "Jain's index")
"""What policies change besides: the order of calls decides what is still in the cache, and who waits for whom."""


def setting(run: Run) -> str:
    """What is swept: the policy, or how calls are batched."""
    return run.configuration.policy or run.configuration.batching


def simulated(run: Run, trace: Trace, profile: str = PROFILE) -> Run:
    """The same replay in virtual time, with as many KV blocks."""
    options = {BLOCKS: run.configuration.options[BLOCKS]}
    knobs = replace(run.configuration, engine="sim", profile=profile, options=options)
    return ran(trace, knobs, run.trace, run.id, run.trial)


def by_setting(runs: Iterable[Run]) -> Mapping[str, Mapping[str, Sequence[Run]]]:
    """By trace and setting, in the order in which they were planned."""
    found: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        found[run.trace][setting(run)].append(run)
    return found


def changes(plain: Sequence[Run], mine: Sequence[Run]) -> Mapping[str, float]:
    """Relative change of each figure, also where the caches of both held other prompts."""
    rows = compare(pair(plain, mine, allow_different_work=True), allow_rejected=True).rows
    return {r.name: r.change if r.change is not None else nan for r in rows}


def table(
    folder: RunFolder, trace_of: Callable[[str], Trace], base: str, shown: Sequence[str], profile: str = PROFILE
) -> Iterator[str]:
    """Measured joules, changes of figures against ``base``, and in brackets what the simulator says the changes are."""
    yield row("trace", "setting", "trials", "exact calls", "energy, J", *(f"{name} [simulated]" for name in shown))
    yield row("---", "---", *["--:"] * (3 + len(shown)))
    told: list[tuple[float, float]] = []
    virtually: list[Run] = []
    for name, settings in by_setting(folder.runs).items():
        modelled = {key: [simulated(run, trace_of(name), profile) for run in runs] for key, runs in settings.items()}
        virtually += [run for runs in modelled.values() for run in runs]
        for key in sorted(settings, key=lambda key: key != base):
            runs = settings[key]
            exact = f"{sum(r.certificate.exact_calls for r in runs)} of {sum(len(r.calls) for r in runs)}"
            joules = [r.energy.gpu_j for r in runs if r.energy.gpu_j is not None]
            cells = [""] * len(shown)
            if key != base:
                real, virtual = changes(settings[base], runs), changes(modelled[base], modelled[key])
                cells = [f"{real[figure]:+.1%} [{virtual[figure]:+.1%}]" for figure in shown]
                told += [(real[figure], virtual[figure]) for figure in shown]
            energy = spread(joules, ".0f") if len(joules) > 1 else f"{fmean(joules):.0f}" if joules else "–"
            yield row(name, key, len(runs), exact, energy, *cells)
        yield from orders(name, settings, modelled)
    alike = sum(a * b > 0 for a, b in told)
    yield f"\nOf {len(told)} changes, {alike} have the sign that the simulator gave them.\n"
    yield from errors(validate(virtually, folder.runs))


def errors(found: Validation) -> Iterator[str]:
    """How far the simulator's figures are off, over all cells."""
    yield row("simulated against measured", "mean error", r"mean \|error\|", "worst", "where")
    yield row("---", "--:", "--:", "--:", "---")
    for each in found.rows:
        worst = each.worst
        yield row(
            each.metric,
            f"{each.bias:+.1%}",
            f"{each.mape:.1%}",
            f"{worst.error:+.1%}",
            f"{worst.trace}, {worst.configuration}",
        )


def orders(name: str, real: Mapping[str, Sequence[Run]], virtual: Mapping[str, Sequence[Run]]) -> Iterator[str]:
    """Settings from the least joules to the most, measured and simulated."""
    if len(real) > 2:
        for source, runs in (("measured", real), ("simulated", virtual)):
            ordered = sorted(runs, key=lambda key: fmean(r.energy.gpu_j or nan for r in runs[key]))
            yield f"\n{name}, least joules first, {source}: {', '.join(ordered)}"


def launching(profile: Profile, runs: Sequence[Run]) -> Profile:
    """``profile`` with launches as much longer than in its grid as they were in ``runs``: one factor of the host."""
    slower = fmean(launches_ms(runs)) / fmean(launches_ms(load_runs(DATA / "grid").runs))
    host = {name: slower * getattr(profile.timing, name) for name in LAUNCHES}
    return changed(profile, timing=changed(profile.timing, **host))


def main(place: Path) -> None:
    kept = load_runs(DATA / "workloads").traces
    mixed = mix(COPIES, SEED)
    policies, batching = load_runs(place / "policies"), load_runs(place / "batching")
    print("\n".join(table(policies, lambda _: mixed, "fcfs", (*TIMES, *SHARED))), "\n")
    assert any(run.configuration.batching == STATIC for run in batching.runs)
    print("\n".join(table(batching, kept.__getitem__, "continuous", TIMES)))
    mean_ms = ", ".join(f"{fmean(launches_ms(runs)):.1f}" for runs in (policies.runs, batching.runs))
    print(f"\nMean launch of prompts without CUDA graphs: {mean_ms} ms. With launches as in batching:\n")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "host.json"
        write_profile(launching(load_profile(PROFILE), batching.runs), path)
        print("\n".join(table(policies, lambda _: mixed, "fcfs", TIMES, str(path))))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA / "scheduling")
