"""How far off differences are that the simulator predicts, by card and by pair: python -m benchmarks.differences.

Replays the four kept workloads in virtual time, and holds the ratio of each figure between two batch sizes against the
measured ratio, on the card of the grid and on two others; likewise, on the card of benchmarks/h200/steady, the ratios
between loads that keep batches of 1 to 256 full, or are prompts or answers alone. ``--write`` gives the profile what
``rejoule diff`` allows modelled differences for. Also prints how three cards and how trials differ at equal work.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import fsum, log, sqrt
from statistics import fmean, median
from typing import Final

import msgspec
import orjson
from benchmarks.gpu.uniform_trace import Kind, uniform_trace
from benchmarks.validation import BLOCKS, DATA, MEASURED, PROFILE, ran, simulated

from rejoule.analysis.comparison.allowance import key
from rejoule.analysis.summary.summary import METRICS, Summary, trials
from rejoule.replay.sim.profile import DifferenceError, ExpectedError
from rejoule.replay.sim.shipped import FOLDER
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import load_runs
from rejoule.traces.student import detectable, pairs_needed
from rejoule.traces.trials import ASKED, H200_SPREAD, LEAD_LEVEL, paired_spread

Cell = tuple[str, int | None]
"""A trace and a batch size."""
Figures = Mapping[str, Mapping[str, float]]
"""Figures by name under the key by which their errors are known."""

CARDS: Final = dict(zip(MEASURED, ("card of the grid", "second card", "third card"), strict=True))
LANES: Final = {1: 24, 8: 24, 64: 14, 256: 10}
"""Calls in each lane of steady.sh, by the number of lanes."""
WHOLE: Final = frozenset(metric.name for metric in METRICS)
TRIALS: Final = (2, 3, 4, 5, 6, 8, 10)
LEAST: Final = 18
"""Differences below which no error is stated for a figure."""


def cells(runs: Sequence[Run]) -> dict[Cell, Figures]:
    groups: dict[Cell, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.trace, run.configuration.max_num_seqs].append(run)
    return {cell: figures(trials(found)) for cell, found in groups.items()}


def figures(found: Sequence[Summary]) -> Figures:
    figures: dict[str, dict[str, float]] = defaultdict(dict)
    for metric in METRICS:
        values = [v for s in found if (v := metric.value(s)) is not None]
        if values and metric.unit != "tokens":
            figures[key("workload", metric.name)][metric.name] = fmean(values)
    split = [s.attribution for s in found if s.attribution is not None and s.attribution.withheld is None]
    # The total spread by time is another thing than joules by node.
    if split and all(a.tested for a in split):
        for name in split[0].by_node():
            figures[key("node", name)][name] = fmean(a.by_node()[name].total_j for a in split)
        for name in ("prefill", "decode"):
            figures[key("phase", name)][name] = fmean(getattr(a.by_phase(), f"{name}_j") for a in split)
        for name in split[0].without_work():
            figures[key("node", name)][name] = fmean(a.without_work().get(name, 0.0) for a in split)
    return figures


def loads() -> dict[str, tuple[list[Kind], int]]:
    """The loads of steady.sh and additivity.sh with their ``max_num_seqs``, whose traces are made anew from a seed."""
    full = {f"batch-{b}": ([Kind("answer", b, calls, 512, 128)], 256) for b, calls in LANES.items()}
    prefill = [Kind("prefill", 1, calls, tokens, 4) for calls, tokens in ((200, 500), (150, 1000), (100, 3000))]
    decode = [Kind("decode", 8, *size) for size in ((6, 64, 512), (5, 64, 384), (4, 128, 256), (3, 512, 128))]
    return {**full, "prefill": (prefill, 64), "decode": (decode, 64), "mix": (prefill + decode, 64)}


def between_loads() -> Iterator[tuple[str, str, float]]:
    """As ``errors``, between two loads."""
    measured = cells([run for name in ("steady", "additivity") for run in load_runs(DATA / name).runs])
    runs = []
    for name, (kinds, batch) in loads().items():
        knobs = Configuration(profile=PROFILE, max_num_seqs=batch, arrivals="burst", options={"num_gpu_blocks": BLOCKS})
        runs.append(ran(uniform_trace(kinds), knobs, name, name))
    sim = cells(runs)
    # Whole runs alone: loads have no nodes in common.
    return errors(_whole(sim), _whole(measured))


def _whole(found: Mapping[Cell, Figures]) -> dict[Cell, Figures]:
    ordered = enumerate(figures for _, figures in sorted(found.items(), key=lambda item: item[0][0]))
    return {("", i): {group: names for group, names in figures.items() if group in WHOLE} for i, figures in ordered}


def errors(sim: Mapping[Cell, Figures], measured: Mapping[Cell, Figures]) -> Iterator[tuple[str, str, float]]:
    """(figure, pair of batch sizes, relative error of the predicted ratio)."""
    for a, b in combinations(sorted(measured, key=lambda c: (c[0], c[1] or 0)), 2):
        if a[0] != b[0]:
            continue
        for group, names in measured[a].items():
            for name in names:
                sides = [s[c].get(group, {}).get(name, 0.0) for s in (sim, measured) for c in (a, b)]
                if min(sides) > 0.0:
                    yield group, f"{a[1]} → {b[1]}", abs(sides[1] / sides[0] / (sides[3] / sides[2]) - 1.0)


def between(cards: Sequence[Mapping[Cell, Figures]]) -> dict[str, list[float]]:
    """The most over the least of the same work, less one."""
    found: dict[str, list[float]] = defaultdict(list)
    for cell in cards[0]:
        for group, names in cards[0][cell].items():
            for name in names:
                values = [v for card in cards if (v := card[cell].get(group, {}).get(name, 0.0)) > 0.0]
                if len(values) > 1:
                    found[group].append(max(values) / min(values) - 1.0)
    return found


def trial_spread(runs: Iterable[Run], value: Callable[[Run], float]) -> tuple[float, float, int]:
    """Standard deviation of trials: pooled, the median configuration's, and how many configurations."""
    groups: dict[Cell, list[float]] = defaultdict(list)
    for run in runs:
        groups[run.trace, run.configuration.max_num_seqs].append(log(value(run)))
    known = [values for values in groups.values() if len(values) > 1]
    squares = [[(v - fmean(values)) ** 2 for v in values] for values in known]
    variances = [fsum(each) / (len(each) - 1) for each in squares]
    pooled = fsum(map(fsum, squares)) / sum(len(each) - 1 for each in squares)
    return sqrt(pooled), sqrt(median(variances)), len(known)


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that so large a share does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def difference_errors(found: Mapping[str, Sequence[float]], least: int) -> dict[str, DifferenceError]:
    """By figure, of those that are known of ``least`` differences or more."""
    return {
        group: DifferenceError(round(median(e), 5), round(quantile(e, 0.95), 5), round(max(e), 5))
        for group, e in found.items()
        if len(e) >= least
    }


def expected(found: Mapping[str, Sequence[float]]) -> ExpectedError:
    return ExpectedError(
        source="python -m benchmarks.differences: predicted against measured ratios between max_num_seqs 1, 8, 64 and "
        "256 of four workloads on three H200s at 700 W, and between seven loads of full batches, prompts or answers "
        "(benchmarks/h200); the profile was fitted to none of them",
        knobs=("max_num_seqs",),
        differences=len(found["GPU energy"]),
        metrics=difference_errors(found, LEAST),
    )


def _write(found: ExpectedError) -> None:
    path = FOLDER / f"{PROFILE}.json"
    body = orjson.loads(path.read_bytes())
    held = body.get("expected_error") or {}
    body["expected_error"] = msgspec.to_builtins(found) | {"options": held.get("options", {})}
    path.write_bytes(msgspec.json.format(orjson.dumps(body), indent=2) + b"\n")


def main() -> None:
    sim = cells(simulated())
    measured = {name: load_runs(DATA / name).runs for name in MEASURED}
    cards = {name: cells(runs) for name, runs in measured.items()}
    everything: dict[str, list[float]] = defaultdict(list)
    by_pair: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, card in cards.items():
        for group, pair, error in errors(sim, card):
            everything[group].append(error)
            if group == "GPU energy":
                by_pair[pair][name].append(error)
    apart = []
    for group, _, error in between_loads():
        everything[group].append(error)
        if group == "GPU energy":
            apart.append(error)
    print("Predicted against measured ratios of joules, by card and batch sizes: median, worst of four workloads\n")
    print(f"| batch sizes | {' | '.join(CARDS.values())} |\n| --- |{' --: |' * len(CARDS)}")
    for pair, found in by_pair.items():
        print(f"| {pair} | {' | '.join(f'{median(e):.1%}, {max(e):.1%}' for e in found.values())} |")
    totals = [[e for found in by_pair.values() for e in found[name]] for name in CARDS]
    print(f"| all | {' | '.join(f'{median(e):.1%}, {max(e):.1%}' for e in totals)} |")
    print(f"\nBetween {len(loads())} other loads, on the card of steady: {len(apart)} pairs, ", end="")
    print(f"median {median(apart):.1%}, worst {max(apart):.1%}")
    print("\nThe same by figure, all cards and loads\n\n| figure | differences | median | 95 of 100 | worst |")
    print("| --- | --: | --: | --: | --: |")
    for group, e in everything.items():
        print(f"| {group} | {len(e)} | {median(e):.1%} | {quantile(e, 0.95):.1%} | {max(e):.1%} |")
    print("\nThree cards at the same work, most against least\n\n| figure | cases | median | most |")
    print("| --- | --: | --: | --: |")
    for group, e in between(list(cards.values())).items():
        print(f"| {group} | {len(e)} | {median(e):.1%} | {max(e):.1%} |")
    print("\nTrials of one configuration, standard deviation of joules\n\n| runs | configurations | pooled | median |")
    print("| --- | --: | --: | --: |")
    for name, runs in measured.items():
        if len({run.trial for run in runs}) > 1:
            pooled, middle, count = trial_spread(runs, lambda run: run.energy.gpu_j or 0.0)
            print(f"| {name} | {count} | {pooled:.2%} | {middle:.2%} |")
    spread = paired_spread(H200_SPREAD)
    print(f"\nWhat trials find in 4 of 5 cases, with a spread of {H200_SPREAD:.1%}\n")
    print("| trials | " + " | ".join(map(str, TRIALS)) + " |\n| --- |" + " --: |" * len(TRIALS))
    least = [detectable(spread, count, LEAD_LEVEL) for count in TRIALS]
    print("| finds an increase of | " + " | ".join(f"{change:.1%}" for change in least) + " |\n")
    for change in ASKED:
        print(f"A change of {change:.0%} takes {pairs_needed(change, spread, LEAD_LEVEL)} trials.")
    if "--write" in sys.argv:
        _write(expected(everything))


if __name__ == "__main__":
    main()
