"""Joules a success over a matrix, from joules a workflow and the share of workflows that reached their goal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import exp, hypot, inf, isfinite
from typing import Final

from rejoule.analysis.advice.known import Known, known
from rejoule.analysis.advice.least import A_SUCCESS
from rejoule.analysis.advice.matrix import Matrix
from rejoule.analysis.advice.surface import Guess
from rejoule.analysis.comparison.allowance import Allowance
from rejoule.analysis.summary.naming import several
from rejoule.analysis.summary.units import amount
from rejoule.analysis.summary.words import metric_named
from rejoule.traces.success import untold

SHARE: Final = metric_named("success")


@dataclass(frozen=True)
class Success:
    """What is known of it in every configuration."""

    share: Known
    joules: Known
    """A success. A logarithm of ``inf`` where none succeeded."""

    @property
    def told(self) -> bool:
        """Whether any run says which workflows succeeded."""
        return bool(self.share.guesses)

    @property
    def foreseen(self) -> bool:
        """Whether joules a success of what was not run can be guessed, and are finite."""
        return self.share.everywhere is not None and isfinite(self.share.everywhere.log)


def success(plan: Matrix, workflow: Known) -> Success:
    """``workflow`` are the joules of one."""
    share = known(plan, SHARE, Allowance())
    guesses = {
        key: _shared(found, share.guesses[key]) for key, found in workflow.guesses.items() if key in share.guesses
    }
    everywhere, surface = share.everywhere, workflow.surface
    if surface is not None:
        usual = everywhere is not None and everywhere.log > -inf
        surface = replace(surface, mean=surface.mean - everywhere.log) if usual and everywhere is not None else None
    return Success(
        share, replace(workflow, metric=metric_named(A_SUCCESS), guesses=guesses, surface=surface, untold=share.untold)
    )


def _shared(joules: Guess, share: Guess) -> Guess:
    return Guess(joules.log - share.log, hypot(joules.error, share.error))


def why_untold(plan: Matrix) -> dict[str, list[str]]:
    """Configurations whose successes are not known, by why."""
    found = defaultdict[str, list[str]](list)
    for cell in plan.cells.values():
        reason = next((why for trial in cell.trials if (why := untold(trial.run)) is not None), None)
        if reason is not None:
            found[reason].append(cell.label)
    return found


def success_notes(plan: Matrix, found: Success, asked: bool) -> Iterator[str]:
    """What must be said of successes; ``asked`` is whether the advice goes by them."""
    if not found.told:
        return
    for why, labels in why_untold(plan).items():
        never = ": not advised" if asked else ""
        yield f"{several(labels)}: {why}, so joules a success are not known{never}"
    shares = defaultdict[float, list[str]](list)
    for key, cell in plan.cells.items():
        if key in found.share.guesses:
            shares[exp(found.share.guesses[key].log)].append(cell.label)
    if zero := shares.get(0.0):
        yield f"{several(zero)}: no workflow succeeded, so joules a success are infinite, which is never the least"
    if found.share.everywhere is None:
        each = "; ".join(f"{amount(share, SHARE.unit)} in {several(labels)}" for share, labels in shares.items())
        yield f"workflows that succeeded: {each}: a replay takes success over, so these are of different recordings"
        if asked:
            yield "as recordings differ, nothing is guessed of what succeeds in configurations that were not run"
    elif asked:
        yield (
            f"{amount(next(iter(shares)), SHARE.unit)} of the workflows succeeded wherever that is known, as recorded: "
            "configurations change joules, and no workflow's success"
        )
