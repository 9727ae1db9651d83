"""What a reader must know of a run before using its figures, each in a sentence: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rejoule.replay.engines.client_health import client_limit
from rejoule.replay.protocol.rejection import advice
from rejoule.traces.chosen import policy_notes
from rejoule.traces.evicted import eviction_notes
from rejoule.traces.modelled import modelled_notes
from rejoule.traces.parrot_told import parrot_notes
from rejoule.traces.preempted import fullest_note
from rejoule.traces.ran_on import drifts
from rejoule.traces.run import Run, configuration_key
from rejoule.traces.summary import described
from rejoule.traces.warmth import warmth_notes


@dataclass(frozen=True, slots=True)
class Remark:
    """``warning`` stands against the run's figures; ``note`` says what would make them better."""

    level: Literal["warning", "note"]
    text: str


def between_runs(runs: Sequence[Run]) -> Iterator[str]:
    """What is not alike in the trials of each configuration of a folder, in no one of which it shows, where KV caches
    were full, and which options were modelled unseen."""
    trials: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        trials.setdefault((run.trace, configuration_key(run.configuration)), []).append(run)
    named = [(f"{trace}, {described(mine[0].configuration)}", mine) for (trace, _), mine in trials.items()]
    for name, mine in named:
        yield from (f"{name}: {note}" for note in warmth_notes(mine))
    yield from fullest_note(named)
    yield from policy_notes(runs)
    yield from parrot_notes(runs)
    yield from (f"runs differ: {drift}" for drift in drifts(runs))
    yield from modelled_notes(runs)


def remarks(run: Run) -> Iterator[Remark]:
    """All of one run, the most serious kind of each first."""
    if (limit := client_limit(run)) is not None:
        yield Remark("warning", f"{run.id}: {limit}")
    for reason in run.conditions.rejected if run.conditions is not None else ():
        yield Remark("warning", f"{run.id}: its joules should not be used: {reason}")
    if (hint := advice(run)) is not None:
        yield Remark("note", f"{run.id}: {hint}")
    yield from (Remark("note", f"{run.id}: {note}") for note in eviction_notes([run]))
    if run.certificate.violations:
        first, more = run.certificate.violations[0], len(run.certificate.violations) - 1
        yield Remark("warning", f"{run.id}: {first}{f', and {more} more' if more else ''}")
