"""What a profile is worth that was put together from data sheets: python -m benchmarks.data_sheets [--write].

Two such profiles of an H200 against the four workloads that were measured on three of them (benchmarks/h200, batch 1,
8, 64 and 256). One ships, as ``h200-data-sheet``: how long a decode step takes and what it draws were set by hand to
one of the three cards. The other is what it would be had nobody measured an H200, as is so of most GPUs: bandwidth,
peak and limits of the data sheet, and all else as assumed of an A100, watts in proportion to the limit. ``--write``
states the worse of the two, by figure, in every profile that is put together of data sheets: what others are off by is
not known.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import msgspec
from benchmarks.differences import CARDS, LEAST, cells, difference_errors, errors
from benchmarks.validation import DATA, MEASURED, simulated, written
from msgspec.structs import replace

from rejoule.analysis.validate import ENERGY, Validation, validate
from rejoule.replay.sim.profile import DifferenceError, ExpectedError, FigureError, Profile
from rejoule.replay.sim.shipped import UNCALIBRATED, compose
from rejoule.traces.runs import load_runs

GPU, MODEL, ELSEWHERE = "h200-data-sheet", "llama-3.1-8b", "a100"
WATTS: Final = ("idle_w", "memory_w", "awake_w", "compute_w", "traffic_w", "cache_w")
SHIPPED: Final = "as it ships"
UNSEEN: Final = "had no H200 been measured"
SHOWN: Final = ("GPU energy", "energy per output token", "makespan", "workflow latency p50", "time to first token p99",
                "joules by node")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Worth:
    """What one profile was off by: figures by card, and ratios between batch sizes of all cards."""

    cards: Mapping[str, Validation]
    ratios: Mapping[str, Sequence[float]]

    def figures(self) -> dict[str, FigureError]:
        found: dict[str, list[float]] = defaultdict(list)
        for card in self.cards.values():
            for row in card.rows:
                found[row.metric] += [abs(cell.error) for cell in row.cells]
        return {name: FigureError(round(fmean(e), 4), round(max(e), 4)) for name, e in found.items()}

    def differences(self) -> dict[str, DifferenceError]:
        return difference_errors(self.ratios, LEAST)


def unseen() -> Profile:
    """The H200 by its data sheet alone."""
    known, assumed = compose(GPU, MODEL), compose(ELSEWHERE, MODEL)
    scale = known.gpu.default_power_limit_w / assumed.gpu.default_power_limit_w
    watts = {name: getattr(assumed.power, name) * scale for name in WATTS}
    return replace(known, name=UNSEEN, timing=assumed.timing, power=replace(assumed.power, **watts))


def worth(profile: Profile, cards_of: Iterable[str] = MEASURED) -> Worth:
    """By folder of the workloads measured on a card."""
    with written(profile) as path:
        runs = simulated(path)
    made = cells(runs)
    ratios: dict[str, list[float]] = defaultdict(list)
    cards = {}
    for name in cards_of:
        measured = load_runs(DATA / name).runs
        cards[name] = validate(runs, measured)
        for figure, _, error in errors(made, cells(measured)):
            ratios[figure].append(error)
    return Worth(cards, ratios)


def expected(found: Sequence[Worth]) -> ExpectedError:
    """The worst of them, figure by figure."""
    figures, differences = [each.figures() for each in found], [each.differences() for each in found]
    return ExpectedError(
        source="python -m benchmarks.data_sheets: the worse of two profiles of an H200 by data sheets, against four "
        "workloads at max_num_seqs 1, 8, 64 and 256 on three H200s at 700 W (benchmarks/h200). One GPU and one model: "
        "an example, not a bound",
        knobs=("max_num_seqs",),
        differences=len(found[0].ratios["GPU energy"]),
        metrics={
            name: DifferenceError(
                *(max(getattr(d[name], part) for d in differences) for part in DifferenceError.__struct_fields__)
            )
            for name in differences[0]
        },
        found_on=f"an H200 with {MODEL}",
        figures={
            name: FigureError(*(max(getattr(f[name], part) for f in figures) for part in FigureError.__struct_fields__))
            for name in figures[0]
        },
    )


def lines(found: Mapping[str, Worth], titles: Mapping[str, str] = CARDS) -> Iterator[str]:
    """``titles`` are of cards, by folder."""
    for title, each in found.items():
        yield f"\n**{title[0].upper()}{title[1:]}**: mean error, worst\n"
        yield f"| | {' | '.join(titles.values())} |\n| --- |{' --: |' * len(titles)}"
        rows = {name: {row.metric: row for row in each.cards[name].rows} for name in titles}
        for metric in dict.fromkeys(metric for by in rows.values() for metric in by):
            values = [by.get(metric) for by in rows.values()]
            words = ("" if row is None else f"{row.bias:+.0%}, {row.worst.error:+.0%}" for row in values)
            yield f"| {metric} | {' | '.join(words)} |"
        signs = (f"{sum(d.agrees for d in card.decisive)} of {len(card.decisive)}" for card in each.cards.values())
        yield f"| signs of differences | {' | '.join(signs)} |"
        joules = (_signs_of_joules(card) for card in each.cards.values())
        yield f"| of joules alone | {' | '.join(joules)} |"
    yield f"\nRatios between batch sizes, all cards: median, 95 of 100, worst\n\n| | {' | '.join(found)} |"
    yield f"| --- |{' --: |' * len(found)}"
    each_of = [each.differences() for each in found.values()]
    for figure in SHOWN:
        words = (f"{d[figure].median:.1%}, {d[figure].p95:.1%}, {d[figure].worst:.1%}" for d in each_of)
        yield f"| {figure} | {' | '.join(words)} |"


def _signs_of_joules(card: Validation) -> str:
    signs = [d.agrees for d in card.decisive if d.metric == ENERGY]
    return f"{sum(signs)} of {len(signs)}"


def main() -> None:
    found = {SHIPPED: worth(compose(GPU, MODEL)), UNSEEN: worth(unseen())}
    print("\n".join(lines(found)))
    if "--write" in sys.argv:
        UNCALIBRATED.parent.mkdir(exist_ok=True)
        UNCALIBRATED.write_bytes(
            msgspec.json.format(msgspec.json.encode(expected(list(found.values()))), indent=2) + b"\n"
        )


if __name__ == "__main__":
    main()
