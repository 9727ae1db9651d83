"""Whether grids of several models on a real GPU give its constants: python -m benchmarks.sizes_measured [FOLDER].

FOLDER is what ``gpu/two_sizes.sh`` made, or ``benchmarks/h200`` with the same kept as ``sizes-8b``, ``sizes-32b``,
``sizes-16-layers`` and ``sizes-workloads``; each can be elsewhere (--small, --large, --cut, --judge). Constants are
fitted to the grids of each model and of several, as ``rejoule calibrate`` fits them, and profiles of Qwen3-32B that are
put together of them are held against the workloads: by way, and by cell for the fit to most grids. Then the constants
themselves, and what lone decodes and long prompts show of each grid. What is not there is said, and so is what is not
of one card, host and server. ``benchmarks.sizes`` asks the same of GPUs that are made up.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Final

from benchmarks.sizes_measured import fits, parts, steps, workloads
from benchmarks.sizes_measured.fits import FITS, Constants, words_of
from benchmarks.sizes_measured.parts import Measured, Part
from benchmarks.validation import DATA

from rejoule.traces.errors import RejouleError

CELL_S: Final = 0.6
"""What ``gpu/two_sizes.sh`` gives a cell."""
READING: Final = (
    "± is the relative standard error; n. d.: not determined, near where the fit began, which is the data sheet, or of "
    "fits with the 8B what ships fitted to it; sensor: by the memory's own; without any of them: not fitted but kept. "
    "–: not told apart: keys and values are read as weights are, attention is computed as all else is. Of one model, "
    "host_prefill_s and host_eager_s have its layers in them; of several, what a layer adds is apart."
)


def report(measured: Measured, source: str, cell_s: float = CELL_S) -> Iterator[str]:
    """All tables as markdown lines."""
    yield f"**{source}**\n"
    yield from parts.table(measured.runs)
    ways, left_out = fits.constants(measured.grids)
    yield from _said((*measured.notes, *left_out, *_of_fits(ways)))
    if measured.workloads:
        yield from _workloads(measured, ways)
    if measured.grids:
        yield f"\n**Constants by fit**\n\n{READING}\n"
        yield from fits.table(ways)
        yield "\n**Steps of each grid**: measured, and errors by fit\n"
        yield from steps.table(measured.grids, ways, cell_s)
        yield from _said(steps.other_lengths(measured.grids, cell_s))


def _workloads(measured: Measured, ways: list[Constants]) -> Iterator[str]:
    found = {way.words: workloads.judged(measured.workloads, way) for way in ways}
    yield f"\n**Workloads on {parts.JUDGE.model}**: mean |error|, worst\n"
    yield from workloads.table(found)
    most, last = words_of(FITS[-1]), ways[-1].words
    yield from _said(workloads.aims(last, found[last]))
    if last != most:
        yield f"- the fit to {most} is not there: aims and cells are of {last}"
    yield f"\n**By cell, fitted to {last}**\n"
    yield from workloads.by_cell(found[last])
    yield from _said(found[last].notes)


def _of_fits(ways: Iterable[Constants]) -> Iterator[str]:
    """What each fit says, said once of all that say it."""
    told: dict[str, list[str]] = defaultdict(list)
    for way in ways:
        for note in way.notes:
            told[note].append(way.words)
    for note, words in told.items():
        yield f"fitted to {'; '.join(words)}: {note}"


def _said(notes: Iterable[str]) -> Iterator[str]:
    yield from chain([""], (f"- {note}" for note in dict.fromkeys(notes)))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sizes_measured",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", type=Path, default=DATA)
    for part in parts.PARTS:
        parser.add_argument(f"--{part.made}", type=Path, help=f"in place of FOLDER/{part.kept} or FOLDER/{part.made}")
    parser.add_argument("--cell-s", type=float, default=CELL_S, help="how long the grids' cells last")
    parser.add_argument("--stand-in", action="store_true", help="take simulated runs, to try the way without a GPU")
    given = parser.parse_args()
    where: Mapping[Part, Path | None] = {part: getattr(given, part.made) for part in parts.PARTS}
    try:
        measured = parts.read(given.folder, where, stand_in=given.stand_in)
        for line in report(measured, str(given.folder), given.cell_s):
            print(line, flush=True)
    except RejouleError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
