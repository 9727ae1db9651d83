"""Whether joules come out again of what the sampler wrote: python -m benchmarks.gpu.taken_again [FOLDER …].

Of run folders that keep their samples, compressed or not; without any, those of ``benchmarks/h200``. Of each: how many
runs say when they began, which joules can be taken again, and by how much those are off what the run says at most.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.gpu.packed import unpacked
from benchmarks.gpu.remeasure import began_s, remeasured
from benchmarks.gpu.sensors import row
from benchmarks.gpu.tables import DATA

from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs

SAMPLES: Final = "*.samples*"


def table(folders: Sequence[Path]) -> Iterator[str]:
    """A row a folder, as markdown."""
    yield row("runs of", "runs", "say when they began", "joules off by at most")
    yield row("---", "--:", "--:", "--:")
    for folder in folders:
        runs = load_runs(folder).runs
        off = [error for run in runs if (error := off_by(run, folder)) is not None]
        yield row(folder.name, len(runs), len(off), f"{max(off):.1e}" if off else "–")


def off_by(run: Run, folder: Path) -> float | None:
    """The relative difference of a run's joules and those of its samples; ``None`` where it does not say when it began,
    or its joules are not known. Raises RejouleError unless the folder has one file of samples."""
    start_s, told = began_s(run, ()), run.energy.gpu_j
    if start_s is None or told is None:
        return None
    files = [*folder.rglob(SAMPLES)]
    if len(files) != 1:
        raise RejouleError(f"{folder} has {len(files)} files of samples", "leave the one that its runs are in")
    with unpacked(files[0]) as plain:
        again = remeasured(run, plain, start_s).energy.gpu_j
    return None if again is None else abs(again / told - 1)


def main(words: Sequence[str]) -> None:
    kept = sorted({file.parent for file in DATA.rglob(SAMPLES)})
    try:
        print("\n".join(table([Path(word) for word in words] or kept)))
    except RejouleError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
