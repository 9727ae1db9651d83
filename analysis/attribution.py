"""Joules of every call, node, workflow and phase of a run.

A batched engine step costs a fixed amount, whoever takes part, and an amount for each token:

    E_step = a + c_d · (tokens decoded) + c_p · (prompt tokens computed)

A participant owes its own tokens and an equal share of ``a``. For an affine cost that is the Shapley value in closed
form (Shapley, *A value for n-person games*, 1953): the marginal costs are additive, and the fixed cost is symmetric in
the participants. The coefficients are fitted to the run's own steps, and every step is then scaled so that its shares
add up to the energy it was measured to take. What no call took part in is idle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Literal

import numpy as np

from rejoule.analysis.nnls import Array, nnls
from rejoule.analysis.slices import Slice, slices_of
from rejoule.traces.run import Energy, Run

TOLERANCE = 1e-9
"""Relative difference below which a sum of joules and its total are the same."""


POOR_FIT = 0.1
"""Misfit above which the affine cost does not describe the steps' own energies."""

Method = Literal["step energies", "step times", "client times"]
"""What the joules were attributed from: the energy of every engine step, the steps with the total spread over them by
time, or the client's times alone."""


@dataclass(frozen=True, slots=True)
class PhaseEnergy:
    prefill_j: float = 0.0
    decode_j: float = 0.0

    @property
    def total_j(self) -> float:
        return self.prefill_j + self.decode_j


@dataclass(frozen=True, slots=True)
class CallEnergy:
    """The joules of one call."""

    call: str
    workflow: str
    node: str
    energy: PhaseEnergy


@dataclass(frozen=True, slots=True)
class Costs:
    """The fitted coefficients, and how much of the steps' energy they leave unexplained."""

    step_j: float
    decode_token_j: float
    prefill_token_j: float
    misfit: float
    """‖fitted − measured‖ / ‖measured‖ over the busy steps."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where a run's joules went: ``calls``, ``idle_j`` and ``unattributed_j`` add up to ``gpu_j``."""

    gpu_j: float
    source: str
    calls: tuple[CallEnergy, ...]
    """In the order of the run's calls."""
    idle_j: float
    """Spent while no call was in flight."""
    unattributed_j: float
    """Measured outside every step that the engine told of."""
    costs: Costs
    method: Method

    @property
    def poor_fit(self) -> bool:
        """The steps' own energies are not explained; where they were spread by time, misfit says nothing of it."""
        return self.method == "step energies" and self.costs.misfit > POOR_FIT

    def by_node(self) -> dict[str, PhaseEnergy]:
        return self._summed(lambda call: call.node)

    def by_workflow(self) -> dict[str, PhaseEnergy]:
        return self._summed(lambda call: call.workflow)

    def by_phase(self) -> PhaseEnergy:
        return _sum(call.energy for call in self.calls)

    def _summed(self, key: Callable[[CallEnergy], str]) -> dict[str, PhaseEnergy]:
        groups: dict[str, list[PhaseEnergy]] = {}
        for call in self.calls:
            groups.setdefault(key(call), []).append(call.energy)
        return {name: _sum(energies) for name, energies in groups.items()}


def method_of(run: Run) -> Method:
    if run.steps is None:
        return "client times"
    return "step times" if any(s.energy_j is None for s in run.steps if not s.idle) else "step energies"


def attribute(run: Run) -> Attribution | None:
    """Attribute the run's GPU energy; ``None`` when none was measured."""
    total = run.energy.gpu_j
    if total is None:
        return None
    slices = slices_of(run)
    measured = _slice_energies(slices, run.energy, total)
    idle = np.array([piece.idle for piece in slices], dtype=bool)
    costs = _fit(slices, measured)
    names = sorted({call.id for call in run.calls})
    joules = _shares(slices, measured, costs, names)
    calls = tuple(
        CallEnergy(call.id, call.workflow, call.node, joules.get(call.id, PhaseEnergy())) for call in run.calls
    )
    source = run.energy.source.get("gpu", "unknown")
    return _balanced(Attribution(total, source, calls, fsum(measured[idle]), 0.0, costs, method_of(run)))


def _sum(energies: Iterable[PhaseEnergy]) -> PhaseEnergy:
    listed = list(energies)
    return PhaseEnergy(fsum(e.prefill_j for e in listed), fsum(e.decode_j for e in listed))


def _slice_energies(slices: Sequence[Slice], energy: Energy, total: float) -> Array:
    """Joules of every slice; those without a reading of their own share what the others leave, by time."""
    measured = np.array([np.nan if piece.energy_j is None else piece.energy_j for piece in slices], dtype=np.float64)
    duration = np.array([piece.duration_s for piece in slices], dtype=np.float64)
    idle = np.array([piece.idle for piece in slices], dtype=bool)
    missing = np.isnan(measured)
    if missing.all() and energy.idle_j is not None and duration[idle].sum() > 0.0:
        idle_j = min(energy.idle_j, total)
        measured[idle] = _by_time(duration[idle], idle_j)
        measured[~idle] = _by_time(duration[~idle], total - idle_j)
        return measured
    measured[missing] = _by_time(duration[missing], max(0.0, total - fsum(measured[~missing])))
    claimed = fsum(measured)
    # Steps that claim more than the meter saw are scaled down to it: the meter is the truth.
    return measured * (total / claimed) if claimed > total * (1.0 + TOLERANCE) else measured


def _by_time(duration: Array, joules: float) -> Array:
    whole = duration.sum()
    return duration * (joules / whole) if whole > 0.0 else np.zeros_like(duration)


def _fit(slices: Sequence[Slice], measured: Array) -> Costs:
    busy = [piece for piece in slices if not piece.idle]
    target = measured[[not piece.idle for piece in slices]]
    columns = np.array(
        [(piece.steps, fsum(piece.decode.values()), fsum(piece.prefill.values())) for piece in busy], dtype=np.float64
    ).reshape(-1, 3)
    fitted = nnls(columns, target)
    size = float(np.linalg.norm(target))
    misfit = float(np.linalg.norm(columns @ fitted - target)) / size if size > 0.0 else 0.0
    return Costs(float(fitted[0]), float(fitted[1]), float(fitted[2]), misfit)


def _shares(slices: Sequence[Slice], measured: Array, costs: Costs, names: Sequence[str]) -> dict[str, PhaseEnergy]:
    """Joules by call. An entry is one call in one phase of one slice."""
    index = {name: i for i, name in enumerate(names)}
    piece_of: list[int] = []
    slot_of: list[int] = []
    tokens: list[float] = []
    fixed: list[float] = []
    for number, piece in enumerate(slices):
        if piece.idle:
            continue
        both = piece.prefill.keys() & piece.decode.keys()
        share = 1.0 / (len(piece.prefill) + len(piece.decode) - len(both))
        for phase, work in enumerate((piece.prefill, piece.decode)):
            for call, count in work.items():
                piece_of.append(number)
                slot_of.append(2 * index.get(call, len(names)) + phase)
                tokens.append(count)
                fixed.append(share / 2.0 if call in both else share)
    at = np.array(piece_of, dtype=np.intp)
    slot = np.array(slot_of, dtype=np.intp)
    equal = np.array(fixed, dtype=np.float64)
    steps = np.array([piece.steps for piece in slices], dtype=np.float64)
    per_token = np.where(slot % 2 == 0, costs.prefill_token_j, costs.decode_token_j)
    owed = costs.step_j * steps[at] * equal + per_token * np.array(tokens, dtype=np.float64)
    modelled = np.bincount(at, owed, minlength=len(slices))
    unexplained = modelled[at] <= 0.0
    owed = np.where(unexplained, equal, owed)
    modelled = np.where(modelled > 0.0, modelled, 1.0)
    joules = np.bincount(slot, owed * (measured[at] / modelled[at]), minlength=2 * len(names) + 2)
    return {name: PhaseEnergy(float(joules[2 * i]), float(joules[2 * i + 1])) for name, i in index.items()}


def _balanced(found: Attribution) -> Attribution:
    """Put what is missing to the total under ``unattributed_j``, or, if only rounding, on the largest part."""
    parts = [found.idle_j, *(j for c in found.calls for j in (c.energy.prefill_j, c.energy.decode_j))]
    rest = found.gpu_j - fsum(parts)
    if abs(rest) > TOLERANCE * abs(found.gpu_j):
        return replace(found, unattributed_j=rest)
    if not found.calls:
        return replace(found, idle_j=found.idle_j + rest)
    largest = max(found.calls, key=lambda c: (c.energy.total_j, c.call))
    if found.idle_j >= largest.energy.total_j:
        return replace(found, idle_j=found.idle_j + rest)
    energy = largest.energy
    if energy.decode_j >= energy.prefill_j:
        energy = replace(energy, decode_j=energy.decode_j + rest)
    else:
        energy = replace(energy, prefill_j=energy.prefill_j + rest)
    return replace(found, calls=tuple(replace(c, energy=energy) if c is largest else c for c in found.calls))
