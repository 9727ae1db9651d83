"""What a reader must know of a run before using its figures, each in a sentence: pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rejoule.replay.engines.client_health import client_limit
from rejoule.replay.protocol.rejection import advice
from rejoule.traces.run import Run


@dataclass(frozen=True, slots=True)
class Remark:
    """``warning`` stands against the run's figures; ``note`` says what would make them better."""

    level: Literal["warning", "note"]
    text: str


def remarks(run: Run) -> Iterator[Remark]:
    """All of one run, the most serious kind of each first."""
    if (limit := client_limit(run)) is not None:
        yield Remark("warning", f"{run.id}: {limit}")
    for reason in run.conditions.rejected if run.conditions is not None else ():
        yield Remark("warning", f"{run.id}: its joules should not be used: {reason}")
    if (hint := advice(run)) is not None:
        yield Remark("note", f"{run.id}: {hint}")
    if run.certificate.violations:
        first, more = run.certificate.violations[0], len(run.certificate.violations) - 1
        yield Remark("warning", f"{run.id}: {first}{f', and {more} more' if more else ''}")
