"""Where a run's joules went, as answers are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import fsum, sqrt
from typing import Final, Literal, TypeVar

from rejoule.analysis.attribution.bounds import Bounds
from rejoule.analysis.attribution.costs import Costs
from rejoule.traces.run import Run
from rejoule.traces.tabular import Columns, Tabular, columns_of

K = TypeVar("K")

Names = tuple[str | None, ...]
"""Of nodes or of agents; ``None`` is no agent."""

TOLERANCE: Final = 1e-9
"""Relative difference below which a sum of joules and its total are the same."""

POOR_FIT: Final = 0.1
"""Misfit above which the affine cost does not describe the energy of the run's stretches."""

SCALES: Final = (0.9, 1.1)
"""Measured over modelled energy of the busy time; outside, the costs are those of another engine."""

WITHOUT_WORK: Final = ("tool wait", "idle", "idle GPUs", "unattributed")
"""The lines that no call owes, in the order of tables."""

Method = Literal["step energies", "step readings", "step times", "client readings", "client times"]
"""What the joules were attributed from: the energy of every engine step, the engine's steps with the readings of the
energy counter, the steps with the total spread over them by time, or the client's times with readings, or alone."""


@dataclass(frozen=True, slots=True)
class PhaseEnergy:
    prefill_j: float = 0.0
    decode_j: float = 0.0
    uncertainty_j: float | None = None
    """Half-width of the 95 % interval of the sum; ``None`` where nothing tells."""
    again_j: float | None = 0.0
    """The part of ``prefill_j`` for tokens that had been computed before a preemption; ``None`` without steps."""

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
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Half-widths of 95 % intervals, in joules, of everything that is more than one call."""

    nodes: Mapping[str, float] = field(default_factory=dict)
    workflows: Mapping[str, float] = field(default_factory=dict)
    prefill_j: float | None = None
    decode_j: float | None = None
    idle_j: float | None = None
    agents: Mapping[str | None, float] = field(default_factory=dict)
    """Those that the run can tell from one another."""
    agents_together: Mapping[Names, float] = field(default_factory=dict)
    """As ``together``, of agents."""
    together: Mapping[tuple[str, ...], float] = field(default_factory=dict)
    """Of the sums of nodes that the run cannot tell apart, by their names; each of them alone has no interval."""

    @property
    def tied(self) -> frozenset[str]:
        """Nodes that the run cannot tell from another."""
        return frozenset(name for names in self.together for name in names)


@dataclass(frozen=True, slots=True)
class Attribution(Tabular):
    """Where a run's joules went: ``calls``, ``idle_j``, ``idle_gpus_j`` and ``unattributed_j`` add up to ``gpu_j``.

    As a table it has a row a call, and one for each line that no call owes; their ``energy_j`` add up to ``gpu_j``.
    """

    gpu_j: float
    source: str
    calls: tuple[CallEnergy, ...]
    """In the order of the run's calls."""
    idle_j: float
    """Spent while no call was in flight, or the engine had no work."""
    tool_wait_j: float
    """The part of ``idle_j`` in which some workflow waited for a tool."""
    unattributed_j: float
    """Measured outside every step that the engine told of."""
    costs: Costs
    scale: float
    """Measured over modelled energy of the busy time."""
    method: Method
    uncertainty: Uncertainty = Uncertainty()
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    """By node; empty where the engine's steps are not known."""
    idle_gpus_j: float = 0.0
    """Of GPUs that were measured with the others and had no work."""
    objection: str | None = None
    """What speaks against joules by call, node and phase, though the costs may fit well."""

    @property
    def tested(self) -> bool:
        """Whether energy is known for parts of the run, so that the fit says something of the costs."""
        return self.method in ("step energies", "step readings", "client readings")

    @property
    def withheld(self) -> str | None:
        """Why joules by call, node and phase should not be read; ``None`` where they may."""
        if not self.tested:
            return None
        if self.costs.misfit > POOR_FIT:
            return f"poor fit (misfit {self.costs.misfit:.2f}, above {POOR_FIT:g})"
        if not SCALES[0] <= self.scale <= SCALES[1]:
            return f"poor fit (measured {self.scale:.2f} times what the costs say)"
        return self.objection

    def by_node(self) -> dict[str, PhaseEnergy]:
        known = {name: half for name, half in self.uncertainty.nodes.items() if name not in self.uncertainty.tied}
        return self._summed(lambda call: call.node, known)

    def together(self) -> dict[tuple[str, ...], PhaseEnergy]:
        """Sums of nodes that the run cannot tell apart."""
        return _sums(self.by_node(), self.uncertainty.together)

    def by_workflow(self) -> dict[str, PhaseEnergy]:
        return self._summed(lambda call: call.workflow, self.uncertainty.workflows)

    def by_agent(self) -> dict[str | None, PhaseEnergy]:
        """``None`` has the calls of no agent, or of one without a name."""
        return self._summed(lambda call: call.agent, self.uncertainty.agents)

    def agents_together(self) -> dict[Names, PhaseEnergy]:
        """Sums of agents that the run cannot tell apart."""
        return _sums(self.by_agent(), self.uncertainty.agents_together)

    def by_phase(self) -> PhaseEnergy:
        return total(call.energy for call in self.calls)

    def without_work(self) -> dict[str, float]:
        """Joules that no call owes, by line: with those of the calls they add up to ``gpu_j``."""
        joules = (self.tool_wait_j, self.idle_j - self.tool_wait_j, self.idle_gpus_j, self.unattributed_j)
        return {name: j for name, j in zip(WITHOUT_WORK, joules, strict=True) if j or name == "idle"}

    def columns(self) -> Columns:
        calls = (
            {
                "line": "call",
                "call": c.call,
                "workflow": c.workflow,
                "node": c.node,
                "agent": c.agent,
                "prefill_j": c.energy.prefill_j,
                "decode_j": c.energy.decode_j,
                "again_j": c.energy.again_j,
                "energy_j": c.energy.total_j,
                "uncertainty_j": c.energy.uncertainty_j,
            }
            for c in self.calls
        )
        return columns_of([*calls, *({"line": line, "energy_j": j} for line, j in self.without_work().items())])

    def _summed(self, key: Callable[[CallEnergy], K], half_widths: Mapping[K, float]) -> dict[K, PhaseEnergy]:
        groups: dict[K, list[PhaseEnergy]] = {}
        for call in self.calls:
            groups.setdefault(key(call), []).append(call.energy)
        return {name: total(energies, half_widths.get(name)) for name, energies in groups.items()}


def total(energies: Iterable[PhaseEnergy], uncertainty_j: float | None = None) -> PhaseEnergy:
    listed = list(energies)
    again = [e.again_j for e in listed]
    return PhaseEnergy(
        fsum(e.prefill_j for e in listed),
        fsum(e.decode_j for e in listed),
        uncertainty_j,
        None if None in again else fsum(j or 0.0 for j in again),
    )


def _sums(
    parts: Mapping[K, PhaseEnergy], half_widths: Mapping[tuple[K, ...], float]
) -> dict[tuple[K, ...], PhaseEnergy]:
    return {names: total((parts[name] for name in names), half) for names, half in half_widths.items()}


def by_name(names: Iterable[str | None]) -> Names:
    """In an order that does not depend on who came first, so that a sum is called the same in every run."""
    return tuple(sorted(names, key=lambda name: (name is None, name or "")))


def ordered(names: Iterable[str]) -> list[str]:
    """Each once: calls' lines as they come, then those that no call owes."""
    return sorted(dict.fromkeys(names), key=lambda name: WITHOUT_WORK.index(name) if name in WITHOUT_WORK else -1)


def method_of(run: Run) -> Method:
    if run.steps is None:
        return "client readings" if run.readings else "client times"
    if all(s.energy_j is not None for s in run.steps if not s.idle):
        return "step energies"
    return "step readings" if run.readings else "step times"


def quadrature(*half_widths: float | None) -> float | None:
    """Independent errors together: the root of their squares' sum; ``None`` where none is known."""
    known = [width for width in half_widths if width is not None]
    return sqrt(fsum(width * width for width in known)) if known else None
