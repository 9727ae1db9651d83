"""The nodes that carry a finding, workload by workload, over all comparisons that decided it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rejoule.analysis.findings.by_node import ByNode, NodeChange, Quantity
from rejoule.analysis.summary.naming import several
from rejoule.analysis.summary.units import percent, signed

SAID: Final = 0.05
"""Of the whole change: what is less is not worth a word."""
SAID_OF_ALL: Final = 0.01
"""Where that is not clear, of all that the first configuration took."""
SHOWN: Final = 4
"""Nodes in a sentence."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """A node over several comparisons."""

    node: str
    comparisons: int
    """In which it surely changed, this way."""
    delta_least: float
    """A workflow, in the unit of the quantity: the comparison with the least of it."""
    delta_most: float
    share_least: float | None
    """Of the whole change; ``None`` where that is not clear in some."""
    share_most: float | None
    of_all_most: float | None
    """Of all that the first configuration took."""

    @property
    def worth_a_word(self) -> bool:
        if self.share_most is not None:
            return abs(self.share_most) >= SAID
        return self.of_all_most is not None and abs(self.of_all_most) >= SAID_OF_ALL


@dataclass(frozen=True, slots=True)
class Carriers:
    """Nodes of one workload; those in doubt changed by less than is known of them, in some comparison."""

    trace: str
    quantity: Quantity
    unit: str
    comparisons: int
    carry: tuple[Carrier, ...]
    """The largest first; where the whole change is not clear, all that surely changed."""
    against: tuple[Carrier, ...]
    cannot_tell: tuple[str, ...]
    reasons: tuple[str, ...]
    """Why of some nodes, or of all, nothing can be told; no part of the sentence."""
    error_known: bool

    def sentence(self) -> str:
        """``write −1.2 kJ (62 %), plan −400 J (21 %); against it idle +90 J (−5 %); cannot tell: fix``."""
        told = [self._several(self.carry)]
        if against := self._several(self.against):
            told.append(f"against it {against}")
        if self.cannot_tell:
            told.append(f"cannot tell: {several(self.cannot_tell, SHOWN, ', ')}")
        if not any(told):
            told.append("cannot tell of any node" if self.reasons else "no node changed by much")
        words = "; ".join(filter(None, told))
        return words if self.error_known or not (self.carry or self.against) else f"{words} (in the model)"

    def _several(self, carriers: Sequence[Carrier]) -> str:
        worth = [one for one in carriers if one.worth_a_word]
        rest = len(carriers) - len(worth[:SHOWN])
        words = ", ".join(map(self._one, worth[:SHOWN]))
        return f"{words} and {rest} with less" if words and rest else words

    def _one(self, one: Carrier) -> str:
        span = _span(signed(one.delta_least, self.unit), signed(one.delta_most, self.unit))
        notes = []
        if one.share_least is not None and one.share_most is not None:
            notes.append(f"{_span(percent(one.share_least), percent(one.share_most))} of it")
        if one.comparisons < self.comparisons:
            notes.append(f"in {one.comparisons} of {self.comparisons}")
        return f"{one.node} {span} ({', '.join(notes)})" if notes else f"{one.node} {span}"


def carriers(found: Iterable[ByNode]) -> tuple[Carriers, ...]:
    """Of comparisons that say the same of a finding: one for each workload, in their order."""
    by_trace: dict[str, list[ByNode]] = {}
    for each in found:
        by_trace.setdefault(each.trace, []).append(each)
    return tuple(_of_workload(trace, mine) for trace, mine in by_trace.items())


def _of_workload(trace: str, found: Sequence[ByNode]) -> Carriers:
    carry: dict[str, list[NodeChange]] = {}
    against: dict[str, list[NodeChange]] = {}
    doubted: dict[str, None] = {}
    reasons = dict.fromkeys(each.reason for each in found if each.reason is not None)
    for each in found:
        clear = each.verdict in ("less", "more")
        for node in each.nodes:
            if node.verdict == "cannot tell" or (not each.decided and node.verdict != "no difference"):
                doubted[node.node] = None
                if node.reason is not None:
                    reasons[node.reason] = None
            elif node.verdict != "no difference":
                (carry if node.carries or not clear else against).setdefault(node.node, []).append(node)
    return Carriers(
        trace,
        found[0].quantity,
        found[0].unit,
        len(found),
        _ranked(carry),
        _ranked(against),
        tuple(name for name in doubted if name not in carry and name not in against),
        tuple(reasons),
        all(each.error_known for each in found),
    )


def _ranked(nodes: dict[str, list[NodeChange]]) -> tuple[Carrier, ...]:
    made = [_carrier(name, changes) for name, changes in nodes.items()]
    return tuple(sorted(made, key=lambda one: (-one.comparisons, -abs(one.delta_most))))


def _carrier(name: str, changes: Sequence[NodeChange]) -> Carrier:
    deltas = sorted((change.delta for change in changes), key=abs)
    shares = sorted((change.share for change in changes if change.share is not None), key=abs)
    known = len(shares) == len(changes)
    of_all = max((change.of_all for change in changes if change.of_all is not None), key=abs, default=None)
    least, most = (shares[0], shares[-1]) if known else (None, None)
    return Carrier(name, len(changes), deltas[0], deltas[-1], least, most, of_all)


def _span(least: str, most: str) -> str:
    return least if least == most else f"{least} … {most}"
