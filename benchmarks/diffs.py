"""How sure a diff is, on made-up noise: python -m benchmarks.diffs.

Makes 1,000 diffs for each number of trials and each kind of noise, judges them as ``rejoule diff`` does, and counts
which intervals hold and which verdicts are wrong, beside the method that it used before. Seeded; prints the tables of
``docs/statistics.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log, sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rejoule.analysis.comparison.allowance import LEAD
from rejoule.analysis.comparison.change import MARGIN
from rejoule.analysis.comparison.row import Row, corrected, judged
from rejoule.traces.student import normal_cdf, t_cdf, t_quantile
from rejoule.traces.trials import H200_SPREAD

Array = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, float], tuple[Array, Array]]
"""(source, trials, true change) to the figures of A and of B, one row for each figure of a table."""

DIFFS: Final = 1000
TRIALS: Final = (2, 3, 5, 10)
CHANGES: Final = (0.01, 0.02, 0.05, 0.10)
FIGURES: Final = 12
"""Rows of a table, of which the first is its joules: as many as a measured run has figures that vary."""
SHARED: Final = 0.5
"""Correlation of a table's figures: what slows a run down makes it take more joules."""
BASE: Final = 100.0


def _figures(slots: Array, own: Array) -> Array:
    return sqrt(SHARED) * slots + sqrt(1.0 - SHARED) * own


def _sides(source: np.random.Generator, trials: int, draw: Callable[[tuple[int, ...]], Array]) -> Array:
    """Noise of both sides, unit variance: (side, figure, trial)."""
    return _figures(draw((2, 1, trials)), draw((2, FIGURES, trials)))


def _ratio(noise: Array, change: float, scale_b: float = 1.0) -> tuple[Array, Array]:
    a = BASE * np.exp(H200_SPREAD * noise[0])
    return a, BASE * (1.0 + change) * np.exp(H200_SPREAD * scale_b * noise[1])


def normal(source: np.random.Generator, trials: int, change: float) -> tuple[Array, Array]:
    return _ratio(_sides(source, trials, source.standard_normal), change)


def heavy(source: np.random.Generator, trials: int, change: float) -> tuple[Array, Array]:
    return _ratio(_sides(source, trials, lambda shape: source.standard_t(3, shape) / sqrt(3.0)), change)


def drifting(source: np.random.Generator, trials: int, change: float) -> tuple[Array, Array]:
    """A B, B A, A B …: an even drift of two standard deviations from first to last, on noise that remembers half."""
    return _ratio(_abba(_remembering(source, trials) + 2.0 * np.linspace(-0.5, 0.5, 2 * trials)), change)


def unequal(source: np.random.Generator, trials: int, change: float) -> tuple[Array, Array]:
    """B spreads four times as much as A."""
    return _ratio(_sides(source, trials, source.standard_normal), change, 4.0)


def rounded(source: np.random.Generator, trials: int, change: float) -> tuple[Array, Array]:
    """Readings on a grid of half a standard deviation."""
    return _on_grid(source, trials, change, 0.5)


def coarse(source: np.random.Generator, trials: int, change: float) -> tuple[Array, Array]:
    """Readings on a grid of three standard deviations: most trials agree."""
    return _on_grid(source, trials, change, 3.0)


def remembering(source: np.random.Generator, trials: int, change: float) -> tuple[Array, Array]:
    """A B, B A …, with noise that remembers half, and no drift."""
    return _ratio(_abba(_remembering(source, trials)), change)


def warming(source: np.random.Generator, trials: int, change: float) -> tuple[Array, Array]:
    """A A A, then B B B, over an even drift of two standard deviations: sides that do not take turns."""
    slots = _figures(source.standard_normal((1, 2 * trials)), source.standard_normal((FIGURES, 2 * trials)))
    slots = slots + 2.0 * np.linspace(-0.5, 0.5, 2 * trials)
    return _ratio(np.stack([slots[:, :trials], slots[:, trials:]]), change)


def skewed(source: np.random.Generator, trials: int, change: float) -> tuple[Array, Array]:
    """Rare slow runs on both sides alike (lognormal)."""
    return _ratio(_sides(source, trials, lambda shape: _lognormal(source, shape)), change)


def skewed_unequal(source: np.random.Generator, trials: int, change: float) -> tuple[Array, Array]:
    """Rare slow runs of B alone, which spreads four times as much."""
    return _ratio(_sides(source, trials, lambda shape: _lognormal(source, shape)), change, 4.0)


def _lognormal(source: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Mean 0 and variance 1."""
    drawn = source.lognormal(0.0, 1.0, shape)
    return np.asarray((drawn - np.exp(0.5)) / sqrt((np.e - 1.0) * np.e))


def _remembering(source: np.random.Generator, trials: int) -> Array:
    slots = _figures(source.standard_normal((1, 2 * trials)), source.standard_normal((FIGURES, 2 * trials)))
    for i in range(1, 2 * trials):
        slots[:, i] = 0.5 * slots[:, i - 1] + sqrt(0.75) * slots[:, i]
    return slots


def _abba(slots: Array) -> Array:
    """(figure, slot) to (side, figure, trial)."""
    pairs = slots.reshape(len(slots), -1, 2)
    pairs[:, 1::2] = pairs[:, 1::2, ::-1]
    return np.stack([pairs[:, :, 0], pairs[:, :, 1]])


def _on_grid(source: np.random.Generator, trials: int, change: float, share: float) -> tuple[Array, Array]:
    grid = share * H200_SPREAD * BASE
    a, b = _ratio(_sides(source, trials, source.standard_normal), change)
    at = source.uniform(0.0, grid, (FIGURES, 1))
    # Where the truth lies between two marks is as likely anywhere.
    scale = 1.0 + at / BASE
    return np.round(a * scale / grid) * grid, np.round(b * scale / grid) * grid


KINDS: Final[Mapping[str, Noise]] = {
    "normal": normal,
    "heavy tails (t3)": heavy,
    "drift and memory, in turns": drifting,
    "B four times as noisy": unequal,
    "rounded to half its spread": rounded,
}
BEYOND: Final[Mapping[str, Noise]] = {
    "rare slow runs on both sides": skewed,
    "memory without drift, in turns": remembering,
    "rounded to three times its spread": coarse,
    "rare slow runs of B, four times as noisy": skewed_unequal,
    "drift, not in turns": warming,
}
"""Assumptions that fail, or nearly."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Shares of diffs."""

    held: float
    """Whose interval of joules holds the true change, of those that have one."""
    without: float
    """That have none."""
    called: float
    """Whose joules are called less or more."""
    same: float
    """Whose joules are called the same."""
    wrong: float
    """That have any wrong verdict in the whole table: a change where there is none, or none at the margin."""


def table(a: Array, b: Array) -> list[Row]:
    """One table of a diff, judged as ``rejoule diff`` judges it."""
    names = [LEAD, *(f"figure {i}" for i in range(1, len(a)))]
    rows = [
        judged(
            Row("workload", "made", name, "J", 0.0, 0.0, len(x), None, None, None, "cannot tell"),
            x.tolist(),
            y.tolist(),
            None,
            False,
            False,
            None,
        )
        for name, x, y in zip(names, a, b, strict=True)
    ]
    return list(corrected(rows))


def count(noise: Noise, trials: int, change: float, diffs: int = DIFFS, seed: int = 0) -> Counted:
    source = np.random.default_rng([seed, trials, round(1000 * change)])
    tables = [table(*noise(source, trials, change)) for _ in range(diffs)]
    lead = [rows[0] for rows in tables]
    intervals = [row.interval for row in lead if row.interval is not None]
    allowed = ("no difference", "cannot tell") if change == 0.0 else ("less", "more", "cannot tell")
    return Counted(
        sum(i.low <= change <= i.high for i in intervals) / max(1, len(intervals)),
        1.0 - len(intervals) / diffs,
        sum(row.verdict in ("less", "more") for row in lead) / diffs,
        sum(row.verdict == "no difference" for row in lead) / diffs,
        sum(any(row.verdict not in allowed for row in rows) for rows in tables) / diffs,
    )


def before(noise: Noise, trials: int, change: float, diffs: int = DIFFS, seed: int = 0) -> Counted:
    """The same by the expanded bootstrap interval over pairs, of few pairs the least and the greatest, with a t-test
    for p, Holm's correction of changes alone, and "the same" wherever an interval lies within the margin."""
    source = np.random.default_rng([seed, trials, round(1000 * change)])
    drawn = np.random.default_rng(seed).integers(0, trials, size=(1000, trials))
    tail = normal_cdf(-sqrt(trials / (trials - 1)) * t_quantile(0.975, trials - 1))
    held, called, same, wrong = 0, 0, 0, 0
    for _ in range(diffs):
        a, b = noise(source, trials, change)
        logs = np.log(b) - np.log(a)
        low, high = np.quantile(logs[:, drawn].mean(axis=2), (tail, 1.0 - tail), axis=1)
        error = np.maximum(logs.std(axis=1, ddof=1) / sqrt(trials), 1e-12)
        p = np.array([2.0 * t_cdf(-abs(m) / e, trials - 1) for m, e in zip(logs.mean(axis=1), error, strict=True)])
        order = np.argsort(p)
        holm = np.empty_like(p)
        holm[order] = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(p), 0, -1)))
        equal = (low >= log(1.0 - MARGIN)) & (high <= log(1.0 + MARGIN))
        differ = ~equal & (holm < 0.05) & ~((low <= 0.0) & (high >= 0.0))
        held += bool(low[0] <= log(1.0 + change) <= high[0])
        called += bool(differ[0])
        same += bool(equal[0])
        wrong += bool(differ.any() if change == 0.0 else equal.any())
    return Counted(held / diffs, 0.0, called / diffs, same / diffs, wrong / diffs)


def _table(title: str, kinds: Mapping[str, Noise], cell: Callable[[Noise, int], str]) -> None:
    print(f"\n{title}\n\n| noise | {' | '.join(f'{n} trials' for n in TRIALS)} |\n| --- |{' --: |' * len(TRIALS)}")
    for name, noise in kinds.items():
        print(f"| {name} | {' | '.join(cell(noise, n) for n in TRIALS)} |")


def _shares(*values: float) -> str:
    return " → ".join(f"{100 * v:.1f} %" for v in values)


def main() -> None:
    every: dict[tuple[Any, ...], Counted] = {}

    def now(noise: Noise, trials: int, change: float) -> Counted:
        key = (noise, trials, change)
        if key not in every:
            every[key] = count(noise, trials, change)
        return every[key]

    was = {(noise, n, c): before(noise, n, c) for noise in KINDS.values() for n in TRIALS for c in (0.0, MARGIN)}
    _table(
        "Intervals of joules that hold the truth, before → now (equal configurations)",
        KINDS,
        lambda noise, n: _shares(was[noise, n, 0.0].held, now(noise, n, 0.0).held),
    )
    _table(
        "Tables of equal configurations with any row called less or more, before → now",
        KINDS,
        lambda noise, n: _shares(was[noise, n, 0.0].wrong, now(noise, n, 0.0).wrong),
    )
    _table(
        f"Tables with a true +{100 * MARGIN:.0f} % in every row and any of them called the same, before → now",
        KINDS,
        lambda noise, n: _shares(was[noise, n, MARGIN].wrong, now(noise, n, MARGIN).wrong),
    )
    for change in CHANGES:
        _table(
            f"Joules called more, of a true +{100 * change:.0f} %",
            KINDS,
            lambda noise, n, change=change: _shares(now(noise, n, change).called),  # type: ignore[misc]
        )
    _table("Joules called the same, of equal ones", KINDS, lambda noise, n: _shares(now(noise, n, 0.0).same))
    _table(
        "Where assumptions fail: intervals that hold, tables with a false change, tables with a false equality",
        BEYOND,
        lambda noise, n: ", ".join(
            f"{100 * v:.1f} %" for v in (now(noise, n, 0.0).held, now(noise, n, 0.0).wrong, now(noise, n, MARGIN).wrong)
        ),
    )
    print(f"\n{DIFFS} diffs a cell, {FIGURES} rows a table, trials spread by {100 * H200_SPREAD:.1f} %.")


if __name__ == "__main__":
    main()
