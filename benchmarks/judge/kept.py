"""Which of the runs kept in benchmarks/h200 are withheld, and why: python -m benchmarks.judge.kept.

False refusals show here: all had the GPU to themselves but those of ``second-gpu``, and 8 of the 12 of ``company``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.tables import DATA
from benchmarks.judge.scores import unnumbered

from rejoule.analysis.attribution import attribute
from rejoule.traces.runs import load_runs


@dataclass(frozen=True, slots=True)
class Kept:
    """A run that has engine steps and readings."""

    wander: float
    withheld: str | None


def kept(folder: Path) -> list[Kept]:
    found = (attribute(run) for run in load_runs(folder).runs)
    return [Kept(one.costs.wander, one.withheld) for one in found if one is not None and one.method == "step readings"]


def table(found: Iterable[tuple[str, list[Kept]]]) -> Iterator[str]:
    yield "| runs of | read | came and went, most | withheld | why |"
    yield "|---|--:|--:|--:|---|"
    for name, runs in found:
        if not runs:
            continue
        why = Counter(unnumbered(run.withheld) for run in runs if run.withheld)
        most = max((run.wander for run in runs if not run.withheld), default=None)
        shown = "–" if most is None else f"{most:.1%}"
        reasons = "; ".join(f"{n}: {reason}" for reason, n in why.items())
        yield f"| {name} | {len(runs)} | {shown} | {sum(why.values())} | {reasons} |"


def main() -> None:
    folders = sorted(folder for folder in DATA.iterdir() if (folder / "runs").is_dir())
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        print("\n".join(table(zip((folder.name for folder in folders), pool.map(kept, folders), strict=True))))


if __name__ == "__main__":
    main()
