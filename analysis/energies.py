"""Joules of many configurations as one table."""

from __future__ import annotations

from dataclasses import dataclass

from rejoule.analysis.energy import Spent, Split
from rejoule.traces.tabular import Columns, Tabular, columns_of


@dataclass(frozen=True, slots=True, repr=False)
class Energies(Tabular):
    """Where the joules of each trace went under each configuration; as a table it has a row a part.

    The ``energy_j`` of a trace's configuration add up to its mean ``gpu_j``. ``notes`` and ``withheld`` of each say
    what stands against reading them.
    """

    by: Split
    configurations: tuple[Spent, ...]
    notes: tuple[str, ...] = ()
    """What differences between modelled configurations are worth."""

    def __repr__(self) -> str:
        return f"<Energies by {self.by} of {len(self.configurations)} configurations; to_pandas() has the rows>"

    def columns(self) -> Columns:
        return columns_of(
            {
                "trace": spent.trace,
                **spent.configuration,
                "part": part.name,
                "energy_j": part.energy_j,
                "uncertainty_j": part.uncertainty_j,
                "share": part.share,
                "prefill_j": part.prefill_j,
                "decode_j": part.decode_j,
                "calls": part.calls,
                "trials": spent.trials,
                "source": spent.source,
                "withheld": spent.withheld,
            }
            for spent in self.configurations
            for part in spent.parts
        )
