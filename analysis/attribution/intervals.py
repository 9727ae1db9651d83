"""How sure attributed joules are: half-widths of 95 % intervals of calls, nodes, workflows, phases and idle time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rejoule.analysis.attribution.bins import Bins
from rejoule.analysis.attribution.ledger import Ledger
from rejoule.analysis.attribution.result import Attribution, Uncertainty
from rejoule.analysis.attribution.shares import FORM, PHASES, SINGLE, Shares, half_widths, idle_half_width
from rejoule.traces.run import Run


def with_intervals(
    found: Attribution, run: Run, names: Sequence[str], book: Ledger, bins: Bins, shares: Shares
) -> Attribution:
    """Coefficients, misfit and window in quadrature; the sensor's gain is common to all and left out.

    ``names`` are those of the book's calls, in its order.
    """
    window = run.energy.uncertainty_j.get("gpu", 0.0) / found.gpu_j if found.gpu_j > 0.0 else 0.0
    own = {call.id: call for call in run.calls}

    def widths(keys: Sequence[str], form: float = FORM) -> dict[str, float]:
        """``keys`` has a name for each call of ``names``."""
        groups = sorted(set(keys))
        place = {name: i for i, name in enumerate(groups)}
        of_call = np.array([*(place[key] for key in keys), len(groups)], dtype=np.intp)
        group = of_call[book.call]
        joules = np.bincount(group, shares.entries_j, minlength=len(groups) + 1)
        all_of_it = half_widths(group, len(groups) + 1, book, bins, shares, found.costs, form)
        return {name: float(np.hypot(all_of_it[i], window * joules[i])) for i, name in enumerate(groups)}

    by_call = widths(names, SINGLE)
    phase = half_widths(book.decode.astype(np.intp), 2, book, bins, shares, found.costs, PHASES)
    phases = found.by_phase()
    return replace(
        found,
        calls=tuple(replace(c, energy=replace(c.energy, uncertainty_j=by_call[c.call])) for c in found.calls),
        uncertainty=Uncertainty(
            widths([own[name].node for name in names]),
            widths([own[name].workflow for name in names]),
            float(np.hypot(phase[0], window * phases.prefill_j)),
            float(np.hypot(phase[1], window * phases.decode_j)),
            float(np.hypot(idle_half_width(shares, found.costs, bins, book), window * found.idle_j)),
        ),
    )
