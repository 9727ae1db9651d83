"""Two sides judged figure by figure, and their joules by node, agent and phase, line by line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import expm1, fsum
from typing import Final, get_args

from rejoule.analysis.attribution import Attribution, Contrast, Names, Table, contrast, ordered
from rejoule.analysis.comparison.allowance import Allowance
from rejoule.analysis.comparison.row import Row, Scope, corrected, judged
from rejoule.analysis.pairing import same_runs
from rejoule.analysis.summary.lines import agents, line
from rejoule.analysis.summary.summary import Summary
from rejoule.analysis.summary.trust import caution, withheld
from rejoule.traces.modelled import is_modelled

SPLITS: Final[tuple[Table, ...]] = get_args(Table)
"""What joules of a whole run are divided by."""

Sides = Sequence[tuple[Summary, Summary]]
"""Pairs of trials: A, B."""


@dataclass(frozen=True)
class Judge:
    """What may be said of the pairs of one trace."""

    trace: str
    found: Sides
    off: Allowance
    allow_rejected: bool = False

    @cached_property
    def _fit(self) -> Sides:
        return [sides for sides in self.found if self.allow_rejected or not rejected(sides)]

    @cached_property
    def _fits(self) -> Fits:
        return fits_of(self.found)

    def row(self, scope: Scope, name: str, unit: str, value: Callable[[Summary], float | None]) -> Iterable[Row]:
        """One row, or none where no pair knows the figure on both sides; its verdict is for its table to correct."""
        unsure = self._fits.reason(scope, name) if scope in SPLITS else None
        watched = unit in ("J", "W")
        # Without any joules that may be used, those that may not are shown, and not judged.
        used = self._fit if watched and self._fit else self.found
        reason = next((r for sides in self.found for s in sides for r in s.evidence.rejected), None)
        known = [(a, b, x, y) for a, b in used if (x := value(a)) is not None and (y := value(b)) is not None]
        if known:
            told = unit == "tokens" or not any(is_modelled(s.run) for a, b, _, _ in known for s in (a, b))
            row = Row(scope, self.trace, name, unit, 0.0, 0.0, len(known), None, None, None, "cannot tell")
            yield judged(
                replace(
                    row,
                    error_known=told or self.off.knows(scope, name),
                    by_example=not told and self.off.borrows(scope, name),
                ),
                [x for _, _, x, _ in known],
                [y for _, _, _, y in known],
                _summed(self.off.of(scope, name), self._fits.allowance(scope, name)),
                all(s.run.configuration.engine == "sim" for a, b, _, _ in known for s in (a, b)),
                all(same_runs(a.run, b.run) for a, b, _, _ in known),
                reason if watched and not self._fit else unsure,
            )

    def by(self, scope: Table, force: bool = False, per: Callable[[Summary], float] = lambda s: 1.0) -> Iterable[Row]:
        """The lines of one table of joules, those that no call owes with them, and sums of nodes that cannot be told
        apart: each divided by ``per`` of its run. ``force`` has them where the fit is poor, too."""
        known = [sides for sides in self.found if comparable(sides[0].attribution, sides[1].attribution)]
        alike = [sides for sides in known if force or withheld([s.attribution for s in sides]) is None]
        parts = {id(s): _parts(s)[scope] for sides in alike for s in sides}
        full = [sides for sides in alike if all(parts[id(s)] for s in sides)]
        names = ordered(name for sides in full for s in sides for name in parts[id(s)])
        sums = {_shown(group): group for group in self._fits.known.together.get(scope, ())}

        def joules(*lines: str) -> Callable[[Summary], float | None]:
            # A side that was attributed and lacks the line spent nothing on it.
            def value(side: Summary) -> float | None:
                own = parts.get(id(side))
                return fsum(own.get(n, 0.0) for n in lines) / per(side) if own else None

            return value

        values = {name: joules(name) for name in names} | {name: joules(*map(line, sums[name])) for name in sums}
        return corrected([r for name, value in values.items() for r in self.row(scope, name, "J", value)])


def rejected(sides: tuple[Summary, Summary]) -> bool:
    return any(side.evidence.rejected for side in sides)


def comparable(a: Attribution | None, b: Attribution | None) -> bool:
    """Joules by node from the engine's steps and from the client's times differ by more than the configuration."""
    return a is None or b is None or a.method.startswith("client") == b.method.startswith("client")


@dataclass(frozen=True, slots=True)
class Fits:
    """What is known of the fits behind the rows of nodes, agents and phases."""

    known: Contrast
    blind: str | None
    """Why no verdict is given by node, agent or phase at all."""

    def allowance(self, scope: Scope, name: str) -> float | None:
        errors = self.known.errors.items()
        off = next((off for (table, names), off in errors if table == scope and name == _shown(names)), None)
        return None if off is None else expm1(off)

    def reason(self, scope: Scope, name: str) -> str | None:
        if self.blind is not None or scope not in SPLITS:
            return self.blind
        for names in self.known.together.get(scope, ()):
            others = [line(each) for each in names if line(each) != name]
            if len(others) < len(names):
                return f"always worked beside {' and '.join(others)}: what each took cannot be told, their sum can"
        return None


def fits_of(found: Sides) -> Fits:
    """Of measured runs; what the engine itself tells of every step has no such error."""
    sides = [[s.attribution for s in side if s.attribution is not None] for side in zip(*found, strict=True)]
    blind = next((note for side in sides for one in side if (note := caution(one.method))), None)
    measured = all(one.method == "step readings" for side in sides for one in side)
    return Fits(contrast(sides[0], sides[1]) if measured and all(sides) else Contrast(), blind)


def _summed(*allowances: float | None) -> float | None:
    known = [allowance for allowance in allowances if allowance is not None]
    return fsum(known) if known else None


def _shown(names: Names) -> str:
    return " + ".join(map(line, names)) or "idle"


def _parts(side: Summary) -> dict[Table, Mapping[str, float]]:
    """Joules by node, agent and phase, each with the lines that make them add up to the total; none of one agent."""
    found = side.attribution
    if found is None:
        return {scope: {} for scope in SPLITS}
    rest = found.without_work()
    phase = found.by_phase()
    nodes = {line(name): energy.total_j for name, energy in found.by_node().items()}
    by_agent = {line(name): energy.total_j for name, energy in found.by_agent().items()}
    return {
        "node": nodes | rest,
        "agent": by_agent | rest if agents(side.run) else {},
        "phase": {"prefill": phase.prefill_j, "decode": phase.decode_j} | rest,
    }
