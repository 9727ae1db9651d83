"""Best and worst are told under one load."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.analysis import builders

from rejoule.analysis.advice import advise
from rejoule.analysis.energy import extremes, spent
from rejoule.analysis.report.findings import findings
from rejoule.analysis.summary.cells import gather
from rejoule.traces.run import Run

TRACES = {"agentic": builders.trace(3)}


def asked(runs: list[Run], **load: Any) -> list[Run]:
    return [replace(run, id=f"{run.id}-{load}", configuration=replace(run.configuration, **load)) for run in runs]


def test_less_work_is_no_saving() -> None:
    """Runs with half the outputs take less, and are neither the best of a card, nor advised, nor the least."""
    whole = builders.grid(TRACES, [1, 4], [None])
    halved = [
        replace(run, energy=replace(run.energy, gpu_j=(run.energy.gpu_j or 0.0) / 10))
        for run in asked(whole, output_scale=0.5)
    ]
    workload = gather([*whole, *halved], TRACES)[0]
    assert {cell.configuration.output_scale for cell in workload.ranked} == {1.0}
    assert "output ×1" in findings(workload).caption and "0.5" not in findings(workload).caption
    (advice,) = advise(gather([*whole, *halved], TRACES))
    assert advice.best is not None and "0.5" not in advice.best.label
    end = extremes(spent([*whole, *halved]), [*whole, *halved])
    assert "0.5" not in f"{end.least} {end.most}"
    assert all(any("output_scale=1.0" in note for note in notes) for notes in (advice.notes, end.notes))


def test_the_load_is_that_of_most() -> None:
    """Where more configurations had another load than that of the recording, it is theirs; alone, nothing is said."""
    burst = asked(builders.grid(TRACES, [1, 4], [None]), arrivals="burst")
    whole = builders.grid(TRACES, [16], [None])
    workload = gather([*whole, *burst], TRACES)[0]
    assert {cell.configuration.arrivals for cell in workload.ranked} == {"burst"}
    assert any("arrivals=burst" in line for line in workload.other_loads)
    assert gather(burst, TRACES)[0].other_loads == ()
