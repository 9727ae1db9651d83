"""Prints the tables of docs/weights.md from the data in benchmarks/h200: python -m benchmarks.gpu.beside [FOLDER].

What the values of the weights, another process on the GPU, and a second GPU do to the joules of a run; and what two
classes of calls cost together against what each costs alone.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Final

import numpy as np
from benchmarks.gpu.packed import unpacked
from benchmarks.gpu.sensors import row
from benchmarks.gpu.tables import DATA

from rejoule.analysis.attribution import attribute, fit
from rejoule.replay.energy.samples import Samples, read_samples
from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs

Groups = Mapping[tuple[str, str], Sequence[Run]]
"""Runs by trace and value of an option."""
VALUES: Final = ("dummy", "normal", "drawn", "loaded", "shuffled", "zeros")
COMPANY: Final = ("none", "steady", "bursts")
SECOND_S: Final = 1.0


def grouped(runs: Iterable[Run], option: str, order: Sequence[str]) -> Groups:
    found: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda r: r.trial):
        found[run.trace, str(run.configuration.options.get(option))].append(run)
    return dict(sorted(found.items(), key=lambda item: (item[0][0], order.index(item[0][1]))))


def joules(run: Run) -> float:
    return run.energy.gpu_j or 0.0


def mean_j(runs: Sequence[Run]) -> float:
    return mean(joules(run) for run in runs)


def loaded_w(run: Run) -> float:
    return (run.conditions and run.conditions.loaded_w) or 0.0


def weights(runs: Sequence[Run], against: str) -> Iterable[str]:
    """One row for each trace and kind of values: joules by trial, and means beside those of ``against``."""
    groups = grouped(runs, "weights", VALUES)
    yield row(
        "calls", "values", "J, by trial", f"mean against {against}", "s", "mean W", "SM clock, MHz", "limit bound"
    )
    yield row("---", "---", "---", "--:", "--:", "--:", "--:", "--:")
    for (trace, values), group in groups.items():
        base = groups.get((trace, against))
        clocks = [r.conditions.sm_clock_mhz for r in group if r.conditions and r.conditions.sm_clock_mhz]
        bound = [r.power_cap.bound_fraction for r in group if r.power_cap.bound_fraction is not None]
        yield row(
            trace,
            values,
            ", ".join(f"{joules(r):.0f}" for r in group),
            f"{mean_j(group) / mean_j(base) - 1:+.1%}" if base else "–",
            f"{mean(r.makespan_s for r in group):.1f}",
            f"{mean(joules(r) / r.makespan_s for r in group):.0f}",
            f"{mean(clocks):.0f}",
            f"{mean(bound):.0%}",
        )


def products(run: Run) -> float:
    told = run.engine.get("company") or {}
    return float(told.get("products") or 0.0)


def product_j(groups: Groups, kind: str) -> float:
    """Of one matrix product of the company, beside an idle server."""
    still, alone = groups["still", kind], groups["still", "none"]
    return (mean_j(still) - mean_j(alone)) / mean(map(products, still))


def company(groups: Groups) -> Iterable[str]:
    """What the other process draws beside an idle server, and what the same replay takes with it and without."""
    yield row("company", "W beside an idle server", "products/s", "J a product", "run, s", "run, J", "products in it",
              "of them, J", "without it and its time, J")  # fmt: skip
    yield row("---", *["--:"] * 8)
    for kind in COMPANY:
        still, runs = groups["still", kind], groups["nodes", kind]
        watts = mean(joules(r) / r.makespan_s for r in still)
        took_s, longer_s = (mean(r.makespan_s for r in g) for g in (runs, groups["nodes", "none"]))
        if kind == "none":
            yield row(
                kind, f"{watts:.0f}", "–", "–", f"{took_s:.1f}", f"{mean_j(runs):.0f}", "–", "–", f"{mean_j(runs):.0f}"
            )
            continue
        each_j = product_j(groups, kind)
        theirs_j = each_j * mean(map(products, runs))
        rest_j = mean_j(runs) - theirs_j - (took_s - longer_s) * mean(map(loaded_w, runs))
        yield row(
            kind,
            f"{watts:.0f}",
            f"{mean(products(r) / r.makespan_s for r in still):.0f}",
            f"{each_j:.4f}",
            f"{took_s:.1f}",
            f"{mean_j(runs):.0f}",
            f"{mean(map(products, runs)):.0f}",
            f"{theirs_j:.0f}",
            f"{rest_j:.0f}",
        )


def charged(groups: Groups) -> Iterable[str]:
    """Joules by node as attribution has them, by company, and what could have told of it."""
    nodes = sorted({call.node for call in groups["nodes", "none"][0].calls})
    yield row("company", *(f"{n}, J" for n in nodes), "idle, J", "fitted idle, W", "loaded idle before, W", "after, W",
              "misfit", "withheld", "foreign processes")  # fmt: skip
    yield row("---", *["--:"] * (len(nodes) + 7))
    base: dict[str, float] = {}
    for kind in COMPANY:
        runs = groups["nodes", kind]
        costs = fit(runs)
        found = [a for run in runs if (a := attribute(run, costs)) is not None]
        parts = {n: mean(a.by_node()[n].total_j for a in found) for n in nodes}
        base = base or parts
        widths = {n: found[0].by_node()[n].uncertainty_j for n in nodes}
        told = (
            f"{parts[n]:.0f}" + ("" if widths[n] is None else f" ± {widths[n]:.0f}")
            + ("" if kind == "none" else f" ({parts[n] / base[n] - 1:+.0%})")
            for n in nodes
        )  # fmt: skip
        after = [r.conditions.after_w for r in runs if r.conditions and r.conditions.after_w is not None]
        foreign = {pid for r in runs if r.conditions for pid in r.conditions.foreign_processes}
        yield row(
            kind,
            *told,
            f"{mean(a.idle_j for a in found):.0f}",
            f"{costs.idle_w:.0f}",
            f"{mean(map(loaded_w, runs)):.0f}",
            f"{mean(after):.0f}",
            f"{costs.misfit:.3f}",
            "yes" if any(a.withheld for a in found) else "no",
            len(foreign) or "none seen",
        )


def second_gpu(runs: Sequence[Run], samples: Samples) -> Iterable[str]:
    """Each GPU over the whole experiment, then each run: what the idle one adds."""
    yield row("GPU", "mean W", "least and most of a second, W", "SM clock, MHz")
    yield row("---", "--:", "--:", "--:")
    idle_w = 0.0
    for number, track in enumerate(samples.gpus):
        known = track.records["energy_mj"] >= 0
        at_s, energy_j = track.at_s[known], track.records["energy_mj"][known] / 1000
        mean_w = float((energy_j[-1] - energy_j[0]) / (at_s[-1] - at_s[0]))
        average = track.values("average_w")
        average = average[~np.isnan(average)]
        clock = track.values("sm_clock_mhz")
        yield row(
            "works" if number == 0 else "idle",
            f"{mean_w:.1f}",
            f"{average.min():.0f} to {average.max():.0f}",
            f"{np.nanmin(clock):.0f} to {np.nanmax(clock):.0f}",
        )
        idle_w = mean_w
    yield ""
    yield row(
        "calls", "values", "both, J", "of it the idle GPU's, J", "share", "SM clock as stated, MHz", "loaded idle, W"
    )
    yield row("---", "---", "--:", "--:", "--:", "--:", "--:")
    for run in sorted(runs, key=lambda r: (r.trace, str(r.configuration.options["weights"]))):
        spare_j = idle_w * run.makespan_s
        clock_mhz = run.conditions.sm_clock_mhz if run.conditions else None
        yield row(run.trace, run.configuration.options["weights"], f"{joules(run):.0f}", f"{spare_j:.0f}",
                  f"{spare_j / joules(run):.0%}", f"{clock_mhz or 0:.0f}", f"{loaded_w(run):.0f}")  # fmt: skip


def bounds(runs: Sequence[Run]) -> Iterable[str]:
    """Each class in the mix: attributed, alone by the counter, and what the mix would save without it."""
    traces: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        traces[run.trace].append(run)
    mixes = traces.pop("mix")
    costs = fit(mixes)
    found = [a for run in mixes if (a := attribute(run, costs)) is not None]
    total_j = mean_j(mixes)
    yield row("class", "saved without it, J", "attributed, J", "alone, J", "alone, s")
    yield row("---", "--:", "--:", "--:", "--:")
    for name, alone in sorted(traces.items()):
        others_j = sum(mean_j(group) for other, group in traces.items() if other != name)
        yield row(name, f"{total_j - others_j:.0f}", f"{mean(a.by_node()[name].total_j for a in found):.0f}",
                  f"{mean_j(alone):.0f}", f"{mean(r.makespan_s for r in alone):.1f}")  # fmt: skip
    alone_j = sum(map(mean_j, traces.values()))
    took_s = mean(run.makespan_s for run in mixes)
    yield ""
    change = f"{total_j / alone_j - 1:+.1%}"
    yield f"Together they take {total_j:.0f} J in {took_s:.1f} s, {change} against both alone ({alone_j:.0f} J)."


def sampled(path: Path) -> Samples:
    with unpacked(path) as plain:
        return read_samples(plain)


def main(folder: Path) -> None:
    beside = grouped(load_runs(folder / "company").runs, "company", COMPANY)
    second = folder / "second-gpu"
    for table in (
        weights(load_runs(folder / "weights").runs, "dummy"),
        weights(load_runs(folder / "real-weights").runs, "loaded"),
        company(beside),
        charged(beside),
        second_gpu(load_runs(second).runs, sampled(second / "gpu-1.samples.xz")),
        bounds(load_runs(folder / "additivity-long").runs),
    ):
        print("\n".join(table), end="\n\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
