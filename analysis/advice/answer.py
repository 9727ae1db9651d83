"""The answer of advice, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Final

from rejoule.analysis.advice.candidates import Candidate
from rejoule.analysis.advice.known import Estimate, Verdict
from rejoule.analysis.advice.least import A_WORKFLOW, PER, Least
from rejoule.analysis.summary.units import amount, change
from rejoule.traces.run import Configuration

MORE: Final = "run others, as with rejoule replay --sweep KNOB=V1,V2, or name values: --consider KNOB=V1,V2"
"""Where nothing is named to be run next."""
_VERDICTS: Final[Mapping[Verdict, str]] = {
    "keeps": "keeps {}", "may miss": "may miss {}", "misses": "misses {}", "not known": "does not tell {}"
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Advice:
    """Of one workload."""

    trace: str
    source: str
    least: Least
    """What the best has the least of."""
    objectives: tuple[str, ...]
    best: Candidate | None
    """Of those that were run and keep every objective for sure, or else by their values, the one with the least."""
    only: Candidate | None
    """Where one configuration alone was run, or tells what is to be least: it. None is then best, or anything else."""
    sure: bool
    """Whether ``best`` keeps them for sure, as far as errors are known."""
    today: Candidate | None
    """What the saving is counted from."""
    saving: Estimate | None
    """1 − joules of the best / joules of today's."""
    front: tuple[Candidate, ...]
    """Of those that were run: no other has both fewer joules and less of the first objective's figure."""
    nearest: Candidate | None
    """Where nothing keeps the objectives: what comes closest."""
    rivals: tuple[Candidate, ...]
    """Run, and not shown to take more joules than the best."""
    confirm: tuple[Candidate, ...]
    """To be run next: not known yet, and expected to be better than the best, or to tell the most."""
    candidates: tuple[Candidate, ...]
    """All of them, by joules."""
    like: Configuration
    """With the knobs that do not vary."""
    notes: tuple[str, ...]

    def value(self, one: Candidate) -> Estimate | None:
        """Of what the best has the least of."""
        return value(one, self.least)

    @property
    def headline(self) -> str:
        if self.only is not None:
            return f"{self.trace}: {self._of_one(self.only)}"
        if self.best is None:
            return f"{self.trace}: {self._of_none()}"
        return f"{self.trace}: {self._of_best(self.best)}"

    def _of_one(self, one: Candidate) -> str:
        which = one.label if one.settings else "one configuration"
        asked = f" and {_VERDICTS[one.verdict].format(' and '.join(self.objectives))}" if self.objectives else ""
        then = f"run next: {' | '.join(c.label for c in self.confirm)}" if self.confirm else f"to have a choice, {MORE}"
        return (
            f"only {which} was run and can be judged, so there is nothing to choose among: it takes "
            f"{self._amount(one)}{asked}; {then}"
        )

    def _of_none(self) -> str:
        if not any(finite(self.value(one)) for one in self.ran):
            return "no workflow succeeded in any configuration that tells, so joules a success are infinite in all"
        near = "" if self.nearest is None else f"; {self.nearest.label} comes closest"
        return f"nothing that was run keeps {' and '.join(self.objectives)}{near}"

    def _of_best(self, best: Candidate) -> str:
        what = "the least joules" if self.least == A_WORKFLOW else f"the least joules {PER[self.least]}"
        asked = f" and keeps {' and '.join(self.objectives)}" if self.objectives else ""
        words = f"{best.label} takes {what}{asked}: {self._amount(best)}"
        if not self.sure:
            words += ", but may miss an objective"
        elif self.objectives and best.chance is None:
            words += ", judged by the values alone (how far off they may be is not known)"
        if self.today is not None and self.saving is not None:
            width = ""
            if self.saving.low is not None and self.saving.high is not None:
                width = f" ({change(-self.saving.low)} to {change(-self.saving.high)})"
            words += f", {change(-self.saving.value)}{width} against {self.today.label}"
        return words

    @property
    def ran(self) -> tuple[Candidate, ...]:
        return tuple(one for one in self.candidates if one.ran)

    def _amount(self, one: Candidate) -> str:
        found = self.value(one)
        return f"{amount(None if found is None else found.value, 'J')} {PER[self.least]}"


def value(one: Candidate, least: Least) -> Estimate | None:
    """A configuration's joules, a workflow or a success."""
    return one.joules if least == A_WORKFLOW else one.success_joules


def finite(found: Estimate | None) -> bool:
    """Whether it is known and not infinite, so that it may be the least."""
    return found is not None and isfinite(found.value)
