"""What a reader has to know before the figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rejoule.analysis.comparison.allowance import between_trials
from rejoule.analysis.comparison.unseen import unseen_notes
from rejoule.analysis.summary.cells import FULL_SHARE, Workload
from rejoule.analysis.summary.evidence import start_temperatures_c
from rejoule.analysis.summary.lines import work_notes
from rejoule.traces.clock_curve import curve_notes
from rejoule.traces.evicted import eviction_notes
from rejoule.traces.modelled import worth_notes
from rejoule.traces.preempted import fullest_note
from rejoule.traces.warmth import WARM
from rejoule.traces.words import counted


def common_doubts(workloads: Sequence[Workload]) -> list[str]:
    """What stands against them all: what an uncalibrated profile and an assumed clock curve leave open."""
    runs = [s.run for workload in workloads for cell in workload.cells for s in cell.trials]
    return [*worth_notes(runs), *curve_notes(runs)]


def below(workloads: Sequence[Workload], notes: Iterable[str]) -> list[str]:
    """What a section says beside: each once, without what stands at the head of the page."""
    above = set(common_doubts(workloads))
    return [note for note in dict.fromkeys(notes) if note not in above]


def doubts(workload: Workload) -> Iterator[str]:
    """What stands against one workload, whose name begins each line."""
    for cell in workload.cells:
        if cell.failed_calls:
            failed = counted(cell.failed_calls, "call")
            yield f"{workload.name}, {cell.label}: {failed} failed; it is left out of the ranking"
        elif not cell.complete:
            yield f"{workload.name}, {cell.label}: some workflows did not finish; it is left out of the ranking"
        yield from (f"{workload.name}, {cell.label}: {drift}" for drift in cell.drifts)
        if (cards := between_trials([s.run for s in cell.trials])) is not None:
            yield f"{workload.name}, {cell.label}: {cards}"
        if cell.unmet_cap:
            wanted = cell.configuration.power_cap_w
            yield f"{workload.name}: a cap of {wanted:g} W was asked for, {cell.in_force_w:g} W were in force"
    trials = [(f"{workload.name}, {cell.label}", [s.run for s in cell.trials]) for cell in workload.cells]
    yield from fullest_note(trials, FULL_SHARE)
    yield from (f"{workload.name}: {line}" for line in workload.other_loads)
    runs = [s.run for cell in workload.cells for s in cell.trials]
    yield from (f"{workload.name}: {note}" for note in unseen_notes(runs))
    apart = start_temperatures_c(runs)
    if apart is not None:
        yield f"{workload.name}: runs started at {apart[0]:.0f} to {apart[1]:.0f} °C: warmer ones take more"
    yield from (f"{workload.name}: {sentence}" for sentence in work_notes(runs))
    yield from (f"{workload.name}: {note}" for note in eviction_notes(runs))
    violations = sum(not v.startswith(WARM) for run in runs for v in run.certificate.violations)
    if violations:
        yield f"{workload.name}: {counted(violations, 'call')} did not do the work that the trace asked for"
    orders: dict[str, set[str]] = {}
    for run in runs:
        if run.certificate.order:
            orders.setdefault(run.configuration.edge_set, set()).add(run.certificate.order)
    works = {(run.certificate.tier, run.certificate.digest) for run in runs}
    if len(works) > 1 or any(len(found) > 1 for found in orders.values()):
        yield f"{workload.name}: certificates disagree, so not all of its runs did the same work"
    blind = [run for run in runs if run.energy.gpu_j is not None and run.steps is None]
    if 0 < len(blind) < len(runs):
        yield (
            f"{workload.name}: {len(blind)} of {counted(len(runs), 'run')} without step records: their joules by node "
            "are attributed from the client's times, and not comparable with those of the others"
        )
    for cell in workload.cells:
        if cell.withheld:
            yield f"{workload.name}, {cell.label}: {cell.withheld}: its joules by node are not shown"
        if cell.evidence.rejected:
            yield f"{workload.name}, {cell.label}: do not use its joules: {'; '.join(cell.evidence.rejected)}"
