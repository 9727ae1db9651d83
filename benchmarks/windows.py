"""How well the joules of a window are known, against the truth of stand-in GPUs: python -m benchmarks.windows.

The tables of docs/energy.md: how many of 1,000 random windows lie within the stated uncertainty, and what is stated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from tests.replay.energy.readings import Bench
from tests.replay.energy.test_window import LOADS

from rejoule.replay.energy.fake import FakeGpu
from rejoule.replay.energy.window import WindowEnergy, measure

LENGTHS_S: Final = (1.0, 10.0, 60.0)
BENCH_S: Final = 200.0
MARGIN_S: Final = 4.0
EACH: Final = 125
"""Random windows of each load, of 1 to 60 s."""
STATED: Final = 40
"""Windows of each load and length whose uncertainty is looked at."""


def window(bench: Bench, start_s: float, length_s: float, dear: bool) -> WindowEnergy:
    """What is measured of a window, every read taking the counter along, or as where one is dear."""
    taken = (bench.frugal if dear else bench.window)(start_s, start_s + length_s)
    return measure(taken, start_s, start_s + length_s)


def starts(bench: Bench, lengths_s: np.ndarray, draw: np.random.Generator) -> Iterator[tuple[float, float]]:
    for length_s in lengths_s:
        yield bench.start_s + draw.uniform(MARGIN_S, BENCH_S - MARGIN_S - length_s), float(length_s)


def main() -> None:
    draw = np.random.default_rng(7)
    held: dict[bool, list[bool]] = {False: [], True: []}
    print("| load | " + " | ".join(f"{length:.0f} s" for length in LENGTHS_S) + " |\n|---|--:|--:|--:|")
    with TemporaryDirectory() as folder:
        for number, (name, scenario) in enumerate(LOADS.items()):
            bench = Bench(Path(folder) / str(number), [FakeGpu(scenario=scenario, seed=number)], BENCH_S, seed=number)
            for start_s, length_s in starts(bench, np.exp(draw.uniform(0.0, np.log(60.0), EACH)), draw):
                true_j = bench.true_j(start_s, start_s + length_s)
                for dear, hits in held.items():
                    found = window(bench, start_s, length_s, dear)
                    hits.append(abs((found.energy_j or 0.0) - true_j) <= (found.uncertainty_j or 0.0))
            cells = []
            for length in LENGTHS_S:
                seen = [window(bench, *at, False) for at in starts(bench, np.full(STATED, length), draw)]
                cells.append(np.median([(one.uncertainty_j or 0.0) / (one.energy_j or 1.0) for one in seen]))
            print(f"| {name} | " + " | ".join(f"{cell:.3%}" for cell in cells) + " |")
    for dear, hits in held.items():
        print(
            f"\nThe truth lay within in {np.mean(hits):.1%} of {len(hits)} windows{', the counter being dear' * dear}."
        )


if __name__ == "__main__":
    main()
