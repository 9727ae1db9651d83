"""How sure attributed joules are: half-widths of 95 % intervals of calls, nodes, workflows, phases and idle time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rejoule.analysis.attribution.bins import Bins
from rejoule.analysis.attribution.ledger import Ledger
from rejoule.analysis.attribution.nnls import Array, Index
from rejoule.analysis.attribution.result import Attribution, Names, Uncertainty, by_name
from rejoule.analysis.attribution.shares import Shares
from rejoule.analysis.attribution.tied import tied
from rejoule.analysis.attribution.widths import (
    FORM,
    PHASES,
    SINGLE,
    covariance_j2,
    half_widths,
    idle_half_width,
)
from rejoule.traces.run import Run


def with_intervals(
    found: Attribution, run: Run, names: Sequence[str], book: Ledger, bins: Bins, shares: Shares
) -> Attribution:
    """Coefficients, misfit and window in quadrature; the sensor's gain is common to all and left out.

    ``names`` are those of the book's calls, in its order.
    """
    window = run.energy.uncertainty_j.get("gpu", 0.0) / found.gpu_j if found.gpu_j > 0.0 else 0.0
    own = {call.id: call for call in run.calls}

    def groups(keys: Sequence[str]) -> tuple[list[str], Index, Array]:
        """Names in order, the place of each entry's among them, and joules; ``keys`` has one for each of ``names``."""
        each = sorted(set(keys))
        place = {name: i for i, name in enumerate(each)}
        group = np.array([*(place[key] for key in keys), len(each)], dtype=np.intp)[book.call]
        return each, group, np.bincount(group, shares.entries_j, minlength=len(each) + 1).astype(np.float64)

    def widths(keys: Sequence[str], form: float = FORM) -> dict[str, float]:
        each, group, joules = groups(keys)
        all_of_it = half_widths(group, len(each) + 1, book, bins, shares, found.costs, form)
        return {name: float(np.hypot(all_of_it[i], window * joules[i])) for i, name in enumerate(each)}

    def inseparable(keys: Sequence[str]) -> dict[tuple[str, ...], float]:
        each, group, joules = groups(keys)
        together = tied(each, joules[:-1], covariance_j2(group, len(each) + 1, shares, found.costs)[:-1, :-1])
        name_of = {name: " + ".join(names) for names in together for name in names}
        half = widths([name_of.get(key, key) for key in keys])
        return {names: half[" + ".join(names)] for names in together}

    nodes = [own[name].node for name in names]
    agents, agents_together = _agents([own[name].agent for name in names], widths, inseparable)
    by_call = widths(names, SINGLE)
    phase = half_widths(book.decode.astype(np.intp), 2, book, bins, shares, found.costs, PHASES)
    phases = found.by_phase()
    return replace(
        found,
        calls=tuple(replace(c, energy=replace(c.energy, uncertainty_j=by_call[c.call])) for c in found.calls),
        uncertainty=Uncertainty(
            widths(nodes),
            widths([own[name].workflow for name in names]),
            float(np.hypot(phase[0], window * phases.prefill_j)),
            float(np.hypot(phase[1], window * phases.decode_j)),
            float(np.hypot(idle_half_width(shares, found.costs, bins, book), window * found.idle_j)),
            agents=agents,
            agents_together=agents_together,
            together=inseparable(nodes),
        ),
    )


def _agents(
    agents: Sequence[str | None],
    widths: Callable[[Sequence[str]], dict[str, float]],
    inseparable: Callable[[Sequence[str]], dict[tuple[str, ...], float]],
) -> tuple[dict[str | None, float], dict[Names, float]]:
    """Half-widths of agents that the run can tell from the others, and of the sums of those that it cannot."""
    if not any(agents):
        return {}, {}
    # An agent may be called anything, so that those without a name are known by a number.
    key = {agent: str(i) for i, agent in enumerate(dict.fromkeys(agents))}
    keys = [key[agent] for agent in agents]
    together = inseparable(keys)
    tied = {name for names in together for name in names}
    half, agent_of = widths(keys), {name: agent for agent, name in key.items()}
    return (
        {agent: half[name] for agent, name in key.items() if name not in tied},
        {by_name(agent_of[name] for name in names): width for names, width in together.items()},
    )
