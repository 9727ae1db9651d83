"""The constants of an H200 that ship, and what profiles are worth that are put together of them where they were not
fitted: python -m benchmarks.shipped_gpu [--write].

They are fitted to the short grids of three shapes on one card (benchmarks/h200/sizes-8b, sizes-16-layers, sizes-32b),
and judged on what they never saw: the four workloads of the 8B shape on four other cards, beside the data sheet and
beside the default profile, which was fitted to that shape on the first of these and is where the fit begins; and the
workloads of Qwen3-32B on the card of the grids, its own grid left out of the fit. Of both, the worse is stated in every
profile that is put together of them, figure by figure. ``--write`` makes ``profiles/gpus/h200.json``, whose widths
under caps and locks ``python -m benchmarks.voltage_curve --write h200`` then finds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from benchmarks.data_sheets import Worth, lines, worth
from benchmarks.gpu.sensors import row
from benchmarks.sizes import CUT, GPU, LARGE, SMALL
from benchmarks.sizes_measured import parts, workloads
from benchmarks.sizes_measured.fits import SHEET, Constants, fitted, words_of
from benchmarks.sizes_measured.parts import Measured
from benchmarks.sizes_measured.workloads import SHOWN
from benchmarks.validation import DATA, PROFILE
from msgspec.structs import replace

from rejoule.analysis.validate import Validation
from rejoule.replay.cli.gpu_file import write_gpu
from rejoule.replay.sim.profile import ExpectedError, FigureError
from rejoule.replay.sim.shipped import FOLDER, GpuFile, compose, load_profile, put_together

NAME: Final = "h200"
PATH: Final = FOLDER / "gpus" / f"{NAME}.json"
ELSEWHERE: Final = ("workloads-watched", "workloads-other-card", "unseen-workloads", "unseen-workloads-trials")
"""Folders of the 8B shape's workloads, each of another card than the grids'; which card ``workloads`` is of was not
recorded."""
ALL, OTHERS = (SMALL, CUT, LARGE), (SMALL, CUT)
FOUND_ON: Final = f"four other H200s with {SMALL}"
FIGURES_ON: Final = f"the worse, figure by figure, of {FOUND_ON} and its own card with {LARGE} left out of the fit"


def constants(measured: Measured, models: Sequence[str]) -> Constants:
    return fitted({model: measured.grids[model] for model in models})


def shipped(found: Constants, measured: Measured, known: ExpectedError) -> GpuFile:
    """The file of what was ``found``, for cards that it was not fitted to."""
    file = found.file
    kept = [part for part in measured.runs if part is not parts.JUDGE]
    (card,) = {gpu for part in kept for run in measured.runs[part] if run.conditions for gpu in run.conditions.gpus}
    curve = file.clock_curve
    return replace(
        file,
        source=f"Timing and power fitted to short grids of {', '.join(part.model for part in kept)} with random "
        f"weights on one H200 ({card}) at its default limit, vLLM 0.26 ({', '.join(part.kept for part in kept)} of "
        f"benchmarks/h200; python -m benchmarks.shipped_gpu). What these do not determine is near that of {PROFILE}, "
        "caps and clocks are assumed, links are of the data sheet.",
        clock_curve=None if curve is None else replace(curve, own_card=False),
        expected_error=known,
    )


def expected(elsewhere: Worth, left_out: Validation) -> ExpectedError:
    """The worse of both, figure by figure; of differences, those on other cards."""
    figures = elsewhere.figures()
    for found in left_out.rows:
        other = figures[found.metric]
        figures[found.metric] = FigureError(
            max(other.mean, round(found.mape, 4)), max(other.worst, round(abs(found.worst.error), 4))
        )
    return ExpectedError(
        source=f"python -m benchmarks.shipped_gpu: differences of four workloads of {SMALL} between max_num_seqs 1, 8, "
        "64 and 256 on four H200s at 700 W other than that of the grids; figures the worse of those and of "
        f"{LARGE} on the card of the grids, its own left out. Two models on one kind of GPU: an example, not a bound",
        knobs=("max_num_seqs",),
        differences=len(elsewhere.ratios["GPU energy"]),
        metrics=elsewhere.differences(),
        found_on=FOUND_ON,
        figures=figures,
        figures_on=FIGURES_ON,
    )


def summary(found: Mapping[str, Worth]) -> Iterator[str]:
    """All cards together, by way to come by the profile: mean |error| and worst."""
    yield row("", *SHOWN)
    yield row("---", *["--:"] * len(SHOWN))
    for words, each in found.items():
        figures = each.figures()
        yield row(words, *(f"{figures[name].mean:.1%}, {figures[name].worst:.1%}" for name in SHOWN))


def main() -> None:
    measured = parts.read(DATA, {})
    found, others = constants(measured, ALL), constants(measured, OTHERS)
    together = put_together(NAME, found.file, SMALL)
    ways = {SHEET: compose(GPU, SMALL), words_of(ALL): together, f"{PROFILE}, as it ships": load_profile(PROFILE)}
    worths = {words: worth(profile, ELSEWHERE) for words, profile in ways.items()}
    print("\n".join(lines({words_of(ALL): worths[words_of(ALL)]}, {name: name for name in ELSEWHERE})))
    print(f"\n**Four other cards, {SMALL}**: mean |error|, worst\n")
    print("\n".join(summary(worths)))
    left_out = workloads.judged(measured.workloads, others)
    print(f"\n**{LARGE} on the card of the fit**: mean |error|, worst\n")
    told = {way.words: workloads.judged(measured.workloads, way) for way in (found,)} | {others.words: left_out}
    print("\n".join(workloads.table(told)))
    if "--write" in sys.argv:
        write_gpu(shipped(found, measured, expected(worths[words_of(ALL)], left_out)), PATH)


if __name__ == "__main__":
    main()
