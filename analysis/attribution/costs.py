"""What a unit of each kind of work costs, fitted to the energy of bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rejoule.analysis.attribution.ledger import IDLE, TERMS
from rejoule.analysis.attribution.nnls import Array, nnls

SHORTEST_S: Final = 1e-9
"""Anything shorter has no duration worth the name."""

LEAST_VARIANCE: Final = 1e-12
"""Of residuals, relative to the largest bin squared: costs that no bin tells apart stay unknown in an exact fit."""

BLOCK_S: Final = 5.0
"""Residuals this close in time may go together; those further apart are taken as independent."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The fitted coefficients in joules, how sure they are, and how much of the energy they leave unexplained."""

    step_j: float = 0.0
    """Of an engine step, whoever takes part."""
    decode_token_j: float = 0.0
    decode_attended_j: float = 0.0
    """Of each token that a decoded token attends to."""
    prefill_token_j: float = 0.0
    """Of a prompt token computed, not found in the prefix cache."""
    prefill_attended_j: float = 0.0
    idle_w: float = 0.0
    misfit: float = 0.0
    """‖fitted − measured‖ / ‖measured‖ over the bins with work, both divided by the root of the bin's duration."""
    covariance: tuple[tuple[float, ...], ...] = ()
    """Of the six coefficients, in the order above."""

    @property
    def vector(self) -> Array:
        return np.array(
            (
                self.step_j,
                self.decode_token_j,
                self.decode_attended_j,
                self.prefill_token_j,
                self.prefill_attended_j,
                self.idle_w,
            )
        )


@dataclass(frozen=True)
class Sample:
    """What one run says of its costs: features (B × terms), energy and duration of its bins."""

    features: Array
    energy_j: Array
    duration_s: Array


def fit(samples: Sequence[Sample]) -> Costs:
    """Weighted non-negative least squares over the bins of all samples.

    A bin's variance is taken to grow with its duration, as that of a sum of independent errors does. The covariance is
    the cluster-robust sandwich (Liang and Zeger, *Biometrika* 73:1, 1986) over blocks of ``BLOCK_S``, with a weak
    prior: a cost lies between nothing and all the energy, which as a uniform distribution has a twelfth of that,
    squared, for its variance. Costs that the run cannot tell apart keep it.
    """
    features = np.vstack([s.features for s in samples])
    energy_j = np.concatenate([s.energy_j for s in samples])
    duration_s = np.concatenate([s.duration_s for s in samples])
    root = np.sqrt(np.where(duration_s > SHORTEST_S, duration_s, 1.0))
    columns, target = features / root[:, None], energy_j / root
    fitted = nnls(columns, target)
    residual = target - columns @ fitted
    busy = features[:, :IDLE].any(axis=1)
    size = float(np.linalg.norm(target[busy]))
    misfit = float(np.linalg.norm(residual[busy])) / size if size > 0.0 else 0.0
    blocks = np.concatenate([_blocks(s.duration_s) + 1_000_000 * i for i, s in enumerate(samples)])
    most = np.array([_most(energy_j, features[:, j]) for j in range(len(TERMS))])
    covariance = _covariance(columns * most, residual, target, blocks) * np.outer(most, most)
    step, decode, decode_attended, prefill, prefill_attended, idle = map(float, fitted)
    rows = tuple(tuple(map(float, row)) for row in covariance)
    return Costs(step, decode, decode_attended, prefill, prefill_attended, idle, misfit, rows)


def _blocks(duration_s: Array) -> Array:
    return np.floor((np.cumsum(duration_s) - duration_s / 2.0) / BLOCK_S)


def _most(energy_j: Array, column: Array) -> float:
    """What a unit costs if it takes all the energy of the bins that it is in; 0 where there is none."""
    whole = float(column.sum())
    return float(energy_j[column > 0.0].sum()) / whole if whole > SHORTEST_S else 0.0


def _covariance(columns: Array, residual: Array, target: Array, blocks: Array) -> Array:
    """Of coefficients that lie between 0 and 1."""
    terms = columns.shape[1]
    unit = float(np.abs(target).max()) if len(target) else 0.0
    if unit == 0.0:
        return np.zeros((terms, terms))
    columns, residual = columns / unit, residual / unit
    freedom = max(1, len(target) - int(columns.any(axis=0).sum()))
    variance = max(float(residual @ residual) / freedom, LEAST_VARIANCE)
    prior = 12.0 * variance * np.eye(terms)
    # The triangle of the stacked system keeps the precision that its square would lose.
    r = np.linalg.qr(np.vstack([columns, np.sqrt(prior)]), mode="r")
    inverse = np.linalg.inv(r)
    names, place = np.unique(blocks, return_inverse=True)
    scores = np.zeros((len(names), terms))
    np.add.at(scores, place, columns * residual[:, None])
    # Few blocks understate the spread (Cameron and Miller, *Journal of Human Resources* 50:2, 2015).
    few = len(names) / (len(names) - 1) if len(names) > 1 else 1.0
    meat = few * scores.T @ scores if len(names) > 4 * terms else np.zeros((terms, terms))
    plain = variance * columns.T @ columns
    middle = max(meat, plain, key=np.trace) + variance * prior
    bread = inverse @ inverse.T
    found: Array = bread @ middle @ bread
    return found
