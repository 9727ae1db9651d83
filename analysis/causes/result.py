"""Why two configurations differ in joules, as an answer is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import fsum
from typing import Final, Literal

from rejoule.analysis.causes.split import CauseName
from rejoule.analysis.causes.views import Part
from rejoule.analysis.causes.words import name_of, said
from rejoule.analysis.summary.units import change
from rejoule.traces.tabular import Columns, Tabular, columns_of

Basis = Literal["counterfactual steps", "fitted costs", "step times", "totals"]
"""What causes were told from: the makeup of modelled steps, costs fitted to both sides, what work's time is worth at
the mean power of its run, or joules of whole runs."""

SAID: Final = 0.01
"""Of A's joules: what is less is not worth a word."""
MENTIONED: Final = 4


def unclear(joules: float, half_width_j: float | None) -> bool:
    return half_width_j is not None and abs(joules) <= half_width_j


@dataclass(frozen=True, slots=True)
class Cause:
    """Joules of B less those of A that have one cause, or several that these runs cannot tell apart: means over pairs.

    ``half_width_j`` is that of the 95 % interval; ``None`` where nothing tells. Joules by node hold the lines that no
    call owes, too, and are empty where they are not known; so are those by agent.
    """

    names: tuple[CauseName, ...]
    joules: float
    share: float | None
    """Of A's joules."""
    half_width_j: float | None = None
    by_node: Mapping[str, float] = field(default_factory=dict)
    by_agent: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    """Why several are one, or what else the number holds."""
    node_half_width_j: Mapping[str, float | None] = field(default_factory=dict)
    """Of ``by_node``, line by line; ``None`` where nothing tells, which ``Causes.unsure`` has the reason of."""
    agent_half_width_j: Mapping[str, float | None] = field(default_factory=dict)
    """Of ``by_agent``, likewise."""

    @property
    def words(self) -> str:
        return name_of(self.names)

    def lines(self, part: Part) -> Iterator[tuple[str, float, float | None]]:
        """Of its nodes, or agents: the name, joules and their half-width."""
        if part == "agent":
            joules, halves = self.by_agent, self.agent_half_width_j
        else:
            joules, halves = self.by_node, self.node_half_width_j
        return ((line, j, halves.get(line)) for line, j in joules.items())

    @property
    def unclear(self) -> bool:
        """Whether its interval holds nothing at all, so that its direction is not known."""
        return unclear(self.joules, self.half_width_j)


@dataclass(frozen=True, slots=True)
class Piece:
    """Joules of one cause in one node, or in a line that no call owes."""

    cause: str
    line: str
    joules: float
    half_width_j: float | None
    reason: str | None
    """Why it has no interval."""

    @property
    def unclear(self) -> bool:
        return unclear(self.joules, self.half_width_j)


@dataclass(frozen=True, slots=True)
class Causes(Tabular):
    """The difference B − A of one trace's joules by cause, the largest first: they add up to ``delta_j``."""

    trace: str
    a_j: float
    b_j: float
    pairs: int
    basis: Basis
    causes: tuple[Cause, ...]
    notes: tuple[str, ...] = ()
    unsure: Mapping[Part, Mapping[str, str]] = field(default_factory=dict)
    """Nodes and agents whose joules have no interval, with why."""

    @property
    def delta_j(self) -> float:
        return self.b_j - self.a_j

    def of(self, name: CauseName) -> Cause | None:
        """The one that holds this cause; ``None`` where it is nothing."""
        return next((cause for cause in self.causes if name in cause.names), None)

    def pieces(self, part: Part = "node") -> tuple[Piece, ...]:
        """Every cause in every node, or agent, the largest first; nothing where one line has them all."""
        why = self.unsure.get(part, {})
        found = [
            Piece(cause.words, line, joules, half, why.get(line) if half is None else None)
            for cause in self.causes
            for line, joules, half in cause.lines(part)
        ]
        return tuple(sorted(found, key=lambda piece: -abs(piece.joules))) if len({p.line for p in found}) > 1 else ()

    def told(self, part: Part = "node") -> tuple[Piece, ...]:
        """Those of them that are worth a word."""
        return tuple(piece for piece in self.pieces(part) if self.a_j and abs(piece.joules) >= SAID * self.a_j)

    def sentence(self) -> str:
        """In plain words: ``−41.0 %: mostly fuller steps (−38.0 %), then less idle time (−5.1 %) …``."""
        whole = change(self.delta_j / self.a_j) if self.a_j else "of nothing"
        told = [c for c in self.causes if not c.unclear and c.share is not None and abs(c.share) >= SAID][:MENTIONED]
        if not told:
            return f"{whole}: no cause of it is clear" if abs(self.delta_j) > SAID * self.a_j else f"{whole}: no cause"
        way = self.delta_j < 0.0
        along = [cause for cause in told if (cause.joules < 0.0) == way]
        against = [cause for cause in told if (cause.joules < 0.0) != way]
        parts = [f"{said(c.names, c.joules)} ({change(c.share)})" for c in (*along, *against)]
        if along and abs(along[0].joules) >= 0.5 * fsum(abs(c.joules) for c in self.causes):
            parts[0] = f"mostly {parts[0]}"
        words = ", then ".join(parts[: len(along)])
        rest = ", ".join(parts[len(along) :])
        return f"{whole}: {words}{'; against it ' if words and rest else ''}{rest}"

    def columns(self) -> Columns:
        return columns_of(
            {
                "trace": self.trace,
                "cause": cause.words,
                "energy_j": cause.joules,
                "share": cause.share,
                "uncertainty_j": cause.half_width_j,
                "reason": cause.reason,
            }
            for cause in self.causes
        )


def unsure_notes(pieces: Iterable[Piece]) -> Iterator[str]:
    """Why lines have no ±, each reason once, with the lines that it holds for where it does not hold for all."""
    why: dict[str | None, dict[str, None]] = {}
    for piece in pieces:
        why.setdefault(piece.reason, {})[piece.line] = None
    for reason, lines in why.items():
        if reason is not None:
            of = f" of {', '.join(lines)}" if len(why) > 1 else ""
            yield f"no ±{of}: {reason}"
