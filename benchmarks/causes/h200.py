"""Causes of differences between kept runs on H200s: python -m benchmarks.causes.h200."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rejoule.analysis.causes import causes
from rejoule.analysis.pairing import pair, select
from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs

DATA: Final = Path(__file__).parents[1] / "h200"


def rows(name: str, a: Sequence[Run], b: Sequence[Run]) -> Iterator[str]:
    pairs = pair(a, b)
    for trace in dict.fromkeys(each.a.trace for each in pairs):
        found = causes([each for each in pairs if each.a.trace == trace])
        if found is not None:
            yield f"| {name} | {trace} | {found.basis} | {found.sentence()} |"


def turned(runs: Sequence[Run], **options: Any) -> Sequence[Run]:
    """Those with these options and no others of those that were turned."""
    plain = min(len(run.configuration.options) for run in runs)
    return [
        run
        for run in runs
        if len(run.configuration.options) == plain + len(options)
        and all(run.configuration.options.get(name) == value for name, value in options.items())
    ]


def main() -> None:
    batches, options = load_runs(DATA / "workloads").runs, load_runs(DATA / "options").runs
    print("| B against A | workload | told from | causes |\n|---|---|---|---|")
    sides = (
        ("batch 64, 1", select(batches, {"max_num_seqs": 1}), select(batches, {"max_num_seqs": 64})),
        ("prefix caching off, on", turned(options), turned(options, enable_prefix_caching=False)),
        ("no CUDA graphs, with them", turned(options), turned(options, enforce_eager=True)),
    )
    for name, a, b in sides:
        for row in rows(name, a, b):
            print(row, flush=True)


if __name__ == "__main__":
    main()
