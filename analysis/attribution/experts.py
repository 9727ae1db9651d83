"""What share of a model's experts a step wakes, and whose doing that is.

Where each token goes to ``k`` of a layer's ``E`` experts, one of them sleeps through a step of n tokens with chance
``qⁿ``, ``q = 1 − k/E``; those that wake have their weights read once, whoever woke them. The Shapley value of
``1 − qⁿ`` among those who bring ``n_i`` tokens is, by the multilinear extension (Owen, *Management Science* 18:5,
1972),

    ∫₀¹ (1 − q^{n_i}) · Π_{j≠i} (1 − t + t·q^{n_j}) dt

which Gauss–Legendre nodes give to machine precision for the batches met here. Dense models read everything at every
step, which is what a step costs anyway.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from rejoule.analysis.attribution.nnls import Array, Index

ASLEEP: Final = (0.0, 0.5, 0.75, 0.875, 0.9375, 0.97, 0.985)
"""Chances ``q`` that are tried; 0 is a dense model. Mixtures on the market lie between 0.75 and 0.97."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


def woken(tokens: Array, at: Index, steps: int, asleep: float) -> Array:
    """Each entry's part of the share of experts that its step wakes; ``at`` is its step, of ``steps``."""
    missed = asleep**tokens
    found = np.zeros(len(tokens))
    for node, weight in zip((_NODES + 1.0) / 2.0, _WEIGHTS / 2.0, strict=True):
        log = np.log(1.0 - node + node * missed)
        others = np.bincount(at, log, minlength=steps)[at] - log
        found += weight * (1.0 - missed) * np.exp(others)
    return found
