"""Prints the tables of docs/h200.md from the data in benchmarks/h200: python -m benchmarks.gpu.tables [FOLDER]."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, median, stdev

import orjson
from benchmarks.gpu.additivity import additivity
from benchmarks.gpu.packed import unpacked
from benchmarks.gpu.sensors import row, windows

from rejoule.analysis.attribution.naive import NAIVE
from rejoule.replay.energy.samples import read_samples
from rejoule.traces.percentiles import percentile
from rejoule.traces.run import Reading, Run
from rejoule.traces.runs import load_runs
from rejoule.traces.steady import steady
from rejoule.traces.summary import latencies_s

DATA = Path(__file__).parents[1] / "h200"


def spread(values: list[float], form: str) -> str:
    return f"{mean(values):{form}} ± {stdev(values):{form}}"


def workloads(runs: Iterable[Run]) -> Iterable[str]:
    """One row for each workload and batch size: exactness, energy, power and latency over its trials."""
    groups: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.trace, run.configuration.max_num_seqs or 0].append(run)
    yield row("workload", "batch size", "exact calls", "energy, J", "J a workflow", "mean W", "workflow p50, s")
    yield row("---", "--:", "--:", "--:", "--:", "--:", "--:")
    for (trace, size), group in sorted(groups.items()):
        joules = [run.energy.gpu_j or 0.0 for run in group]
        exact, calls = (sum(v) for v in zip(*((r.certificate.exact_calls, len(r.calls)) for r in group), strict=True))
        yield row(
            trace,
            size,
            f"{exact} of {calls}",
            spread(joules, ".0f"),
            f"{mean(joules) / len(group[0].workflows):.0f}",
            f"{mean(j / r.makespan_s for j, r in zip(joules, group, strict=True)):.0f}",
            f"{mean(percentile(latencies_s(r)['workflow'], 50) or 0.0 for r in group):.2f}",
        )


def overhead(path: Path) -> Iterable[str]:
    """Throughput of each kind of server against the plain one; the first trial of each warms the server up."""
    found = orjson.loads(path.read_bytes())
    rates = {name: [t["output_tokens"] / t["makespan_s"] for t in trials[1:]] for name, trials in found.items()}
    plain = mean(rates["plain"])
    yield row("server", "output tokens a second, by trial", "mean against plain")
    yield row("---", "---", "--:")
    for name, values in rates.items():
        yield row(name, ", ".join(f"{v:.0f}" for v in values), f"{mean(values) / plain - 1:+.1%}")


def decode_steps(runs: Iterable[Run]) -> Iterable[str]:
    """Median time of steps that only decode, by batch."""
    times: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        for step in run.steps or ():
            if step.decode and not step.prefill:
                times[len(step.decode)].append(step.end_s - step.start_s)
    yield row("sequences", "steps", "median, ms")
    yield row("--:", "--:", "--:")
    for size in sorted(times):
        if len(times[size]) >= 50:
            yield row(size, len(times[size]), f"{median(times[size]) * 1e3:.2f}")


def idle(runs: Sequence[Run]) -> Iterable[str]:
    """Power without work: before the server was started, with the model loaded, and after each run."""
    around = [run.conditions for run in runs if run.conditions is not None]
    yield row("idle", "W")
    yield row("---", "--:")
    for name, watts in (
        ("bare, before the server", [c.bare_w for c in around]),
        ("model loaded, before the first run", [c.loaded_w for c in around]),
        ("after a run", [c.after_w for c in around]),
    ):
        known = sorted({round(w, 1) for w in watts if w is not None})
        if known:
            yield row(name, f"{known[0]} to {known[-1]}" if len(known) > 1 else known[0])


def full_batches(runs: Iterable[Run]) -> Iterable[str]:
    """Batches kept full: rates and means over the steady state."""
    yield row("batch", "s", "mean W", "of it HBM, W", "SM clock, MHz", "limit bound", "tokens/s", "J a token")
    yield row(*["--:"] * 8)
    for found, run in sorted(((steady(run), run) for run in runs), key=lambda pair: pair[0].batch if pair[0] else 0):
        if found is None:
            continue
        inside = [r for r in run.readings or () if any(a <= r.start_s and r.end_s <= b for a, b in found.stretches)]

        def over_time(name: str, readings: Sequence[Reading] = inside) -> float:
            known = [(float(getattr(r, name)), r.end_s - r.start_s) for r in readings if getattr(r, name) is not None]
            return sum(value * s for value, s in known) / sum(s for _, s in known)

        yield row(
            found.batch,
            f"{found.duration_s:.1f}",
            f"{found.power_w:.0f}",
            f"{over_time('hbm_w'):.0f}",
            f"{over_time('sm_clock_mhz'):.0f}",
            f"{over_time('cap_bound'):.0%}",
            f"{found.tokens_per_s:.0f}",
            f"{found.j_per_token:.3f}",
        )


def counter_and_power(path: Path) -> Iterable[str]:
    """The energy counter beside integrated power, over windows of at least 10 s."""
    with unpacked(path) as plain:
        yield from windows(read_samples(plain), (10, 20, 60))


def classes(runs: Sequence[Run]) -> Iterable[str]:
    """Joules by class in each mix: attributed, by the costs of each class alone, and as the usual methods say."""
    found = additivity(runs)
    methods = list(NAIVE)
    yield row("mix", "class", "attributed, J", "from alone, J", "difference", *(f"{m}, J" for m in methods))
    yield row("--:", "---", *["--:"] * (3 + len(methods)))
    for number, one in enumerate(found, 1):
        for name, energy in one.mixed.by_node().items():
            width = "" if energy.uncertainty_j is None else f" ± {energy.uncertainty_j:.0f}"
            alone = one.alone_j[name]
            others = (f"{one.naive_j[m][name]:.0f}" if m in one.naive_j else "–" for m in methods)
            change = f"{alone / energy.total_j - 1:+.1%}"
            yield row(number, name, f"{energy.total_j:.0f}{width}", f"{alone:.0f}", change, *others)
    for number, one in enumerate(found, 1):
        yield ""
        yield f"Mix {number}: {one.mixed.gpu_j:.0f} J by the counter, {one.modelled_total:.3f} times that from alone."


def sampled(runs: Iterable[Run]) -> Iterable[str]:
    """Throughput, energy and cost with the sampler and without, by trial."""
    groups: dict[bool, list[Run]] = defaultdict(list)
    for run in runs:
        groups[bool(run.configuration.options.get("sampler", True))].append(run)
    rates = {on: [sum(c.output_tokens or 0 for c in r.calls) / r.makespan_s for r in g] for on, g in groups.items()}
    yield row("sampler", "output tokens a second, by trial", "mean against off", "energy, J", "of one core")
    yield row("---", "---", "--:", "--:", "--:")
    for on, group in sorted(groups.items()):
        shares = [r.conditions.sampler["cpu_share"] for r in group if r.conditions and r.conditions.sampler]
        yield row(
            "on" if on else "off",
            ", ".join(f"{rate:.0f}" for rate in rates[on]),
            f"{mean(rates[on]) / mean(rates[False]) - 1:+.1%}" if False in rates else "–",
            spread([r.energy.gpu_j or 0.0 for r in group], ".0f"),
            f"{mean(shares):.2%}" if shares else "",
        )


def by_length(runs: Iterable[Run]) -> Iterable[str]:
    """What the sampler takes of one core, and how far its power is from the counter, by the length of the run."""
    lengths: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.conditions is not None and run.conditions.sampler:
            length = "below 10 s" if run.makespan_s < 10 else "10 to 30 s" if run.makespan_s < 30 else "3 minutes"
            lengths[length].append(run)
    yield row("length of the run", "runs", "of one core, mean", "most", "power / counter − 1, mean", "farthest off")
    yield row("---", "--:", "--:", "--:", "--:", "--:")
    for length, found in sorted(lengths.items()):
        shares = [run.conditions.sampler["cpu_share"] for run in found if run.conditions]
        apart = [
            run.energy.integrated_j / run.energy.gpu_j - 1
            for run in found
            if run.energy.integrated_j and run.energy.gpu_j
        ]
        yield row(
            length,
            len(found),
            f"{mean(shares):.2%}",
            f"{max(shares):.2%}",
            f"{mean(apart):+.2%}" if apart else "–",
            f"{max(map(abs, apart)):.2%}" if apart else "–",
        )


def cards(sets: Sequence[Sequence[Run]]) -> Iterable[str]:
    """Joules of each workload at batch 1 on each card, mean of its trials."""
    found: list[dict[str, list[float]]] = [defaultdict(list) for _ in sets]
    for joules, runs in zip(found, sets, strict=True):
        for run in runs:
            if run.configuration.max_num_seqs == 1:
                joules[run.trace].append(run.energy.gpu_j or 0.0)
    yield row("workload, batch 1", "first card, J", "second card, J", "third card, J", "most against least")
    yield row("---", "--:", "--:", "--:", "--:")
    for trace in sorted(found[0]):
        means = [mean(joules[trace]) for joules in found]
        yield row(trace, *(f"{m:.0f}" for m in means), f"{max(means) / min(means) - 1:+.0%}")


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    replayed = load_runs(folder / "workloads").runs
    full = load_runs(folder / "steady").runs
    watched = load_runs(folder / "workloads-watched").runs
    for table in (
        workloads(replayed),
        overhead(folder / "overhead.json"),
        decode_steps(replayed),
        idle(full),
        full_batches(full),
        *(counter_and_power(folder / name / "gpu-1.samples.xz") for name in ("steady", "workloads-watched")),
        classes(load_runs(folder / "additivity").runs),
        sampled(load_runs(folder / "sampler").runs),
        by_length([*watched, *load_runs(folder / "grid").runs, *load_runs(folder / "sampler").runs]),
        cards([watched, load_runs(folder / "workloads-other-card").runs, replayed]),
    ):
        print("\n".join(table), end="\n\n")
