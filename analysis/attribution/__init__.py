"""Joules of every call, node, workflow and phase of a run.

A batched engine step costs a fixed amount, whoever takes part, and an amount for each unit of work:

    E_step = a + c_d · (tokens decoded) + c_k · (tokens that they attended to)
               + c_p · (prompt tokens computed) + c_a · (token pairs of their attention, n · (c + n/2))

A participant owes its own work and an equal share of ``a``. For an affine cost that is the Shapley value in closed
form (Shapley, *A value for n-person games*, 1953): the marginal costs are additive, and the fixed cost is symmetric in
the participants. The coefficients are fitted to the stretches of the run whose energy is known, and each of these is
then scaled so that its shares add up to the energy it was measured to take. What the engine had no work for is idle.
"""

from rejoule.analysis.attribution.contrast import Contrast, Table, contrast
from rejoule.analysis.attribution.costs import Costs
from rejoule.analysis.attribution.joules import attribute, attribute_alike, fit, predicted
from rejoule.analysis.attribution.result import (
    POOR_FIT,
    SCALES,
    TOLERANCE,
    Attribution,
    CallEnergy,
    Method,
    Names,
    PhaseEnergy,
    Uncertainty,
    method_of,
    ordered,
    quadrature,
)

__all__ = [
    "POOR_FIT",
    "SCALES",
    "TOLERANCE",
    "Attribution",
    "CallEnergy",
    "Contrast",
    "Costs",
    "Method",
    "Names",
    "PhaseEnergy",
    "Table",
    "Uncertainty",
    "attribute",
    "attribute_alike",
    "contrast",
    "fit",
    "method_of",
    "ordered",
    "predicted",
    "quadrature",
]
