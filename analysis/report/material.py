"""What every section of the page is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rejoule.analysis.advice import Objective
from rejoule.analysis.summary.cells import Workload, gather
from rejoule.traces.model import Trace
from rejoule.traces.refused import Refused
from rejoule.traces.run import Run
from rejoule.traces.runs import Experiment


@dataclass(frozen=True)
class Material:
    """A run folder, read."""

    runs: Sequence[Run]
    traces: Mapping[str, Trace]
    experiment: Experiment
    refused: Sequence[Refused] = ()
    objectives: Sequence[Objective] = ()
    """What the configuration that is advised has to keep."""

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        return gather(self.runs, self.traces)
