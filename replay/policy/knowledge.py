"""How much of the recording a policy may know: the one place that decides it.

``oracle``: what was recorded of the very call, as if lengths and paths were known before. No server has that; it is
the bound that better guesses approach.

``learned``: what a service that has seen other workflows could expect: the mean of the recorded outlooks of calls of
the same node on the same visit, over all *other* workflows of the trace, be they earlier or later. Nothing that was
recorded of the workflow itself is in it: `Learned.outlook` is given what can be seen of a call before it is sent, and
sums are of whole numbers, so that taking the workflow's own part away leaves no trace of it. Means of outlooks hold
how often branches were taken, how wide a fan was and how long tools took, without a model of how a graph goes on.

Visits are counted up to ``VISITS``, since the fourth round of a loop has less before it than the first. Where no other
workflow came to a node so often, the last visit that one of them did make stands in; for a node that only this workflow
has, all calls of its graph; and then all calls of the trace. ``Outlook.basis`` says which it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, Protocol

from rejoule.replay.policy.future import is_sent, recorded_outlooks
from rejoule.replay.policy.interface import Basis, Knows, Outlook
from rejoule.traces.model import EdgeSet, Workflow

VISITS: Final = 8
FINE: Final = 10**6
"""Figures are summed as whole millionths."""
_NAMES: Final = tuple(f.name for f in fields(Outlook) if f.name != "basis")
NOTHING: Final = Outlook(**dict.fromkeys(_NAMES, 1.0), basis="nothing")
"""Of a trace of one workflow: all calls are alike."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What names a call before it is sent, as in the trace, whichever pass it belongs to."""

    id: str
    workflow: str
    graph: str
    node: str
    visit: int


class Knowledge(Protocol):
    """What a policy may know of what is to come."""

    @property
    def knows(self) -> Knows: ...

    def outlook(self, call: Seen) -> Outlook:
        """Of a call that is about to be sent."""
        ...


class Oracle:
    """What was recorded."""

    knows: Knows = "oracle"

    def __init__(self, outlooks: Mapping[str, Outlook]) -> None:
        self._outlooks = outlooks

    def outlook(self, call: Seen) -> Outlook:
        return self._outlooks[call.id]


Key = tuple[str, ...] | tuple[str, str, int]


class Learned:
    """Means over the other workflows."""

    knows: Knows = "learned"

    def __init__(self, calls: Iterable[tuple[Seen, Outlook]]) -> None:
        self._all: dict[Key, _Sums] = {}
        self._own: dict[tuple[str, Key], _Sums] = {}
        for call, outlook in calls:
            values = [round(getattr(outlook, name) * FINE) for name in _NAMES]
            for _, key in _keys(call, min(call.visit, VISITS)):
                self._all.setdefault(key, _Sums()).add(values)
                self._own.setdefault((call.workflow, key), _Sums()).add(values)
        self._known: dict[tuple[str, Key], Outlook | None] = {}

    def outlook(self, call: Seen) -> Outlook:
        for visit in range(min(call.visit, VISITS), 0, -1):
            basis, key = _keys(call, visit)[0]
            if (found := self._mean(call.workflow, key, basis)) is not None:
                return found
        for basis, key in _keys(call, 1)[1:]:
            if (found := self._mean(call.workflow, key, basis)) is not None:
                return found
        return NOTHING

    def _mean(self, workflow: str, key: Key, basis: Basis) -> Outlook | None:
        """Over all calls of a key but those of ``workflow``; ``None`` if there are no others."""
        if (workflow, key) not in self._known:
            self._known[workflow, key] = self._computed(workflow, key, basis)
        return self._known[workflow, key]

    def _computed(self, workflow: str, key: Key, basis: Basis) -> Outlook | None:
        everything, own = self._all.get(key), self._own.get((workflow, key), _Sums())
        if everything is None or not (count := everything.count - own.count):
            return None
        sums = zip(_NAMES, everything.values, own.values, strict=True)
        return Outlook(**{name: (total - mine) / (count * FINE) for name, total, mine in sums}, basis=basis)


class _Sums:
    """The sums of some calls' figures."""

    __slots__ = ("count", "values")

    def __init__(self) -> None:
        self.count = 0
        self.values = [0] * len(_NAMES)

    def add(self, values: Sequence[int]) -> None:
        self.count += 1
        self.values = [a + b for a, b in zip(self.values, values, strict=True)]


def _keys(call: Seen, visit: int) -> list[tuple[Basis, Key]]:
    """What a call is alike to others in, the closest first."""
    return [("node", (call.graph, call.node, visit)), ("graph", (call.graph,)), ("trace", ())]


def knowledge(
    workflows: Sequence[Workflow], knows: Knows, edge_set: EdgeSet, *, time_scale: float, output_scale: float
) -> Knowledge:
    """What a policy knows of these workflows."""
    found = {w.id: recorded_outlooks(w, edge_set, time_scale=time_scale, output_scale=output_scale) for w in workflows}
    if knows == "oracle":
        return Oracle({name: outlook for outlooks in found.values() for name, outlook in outlooks.items()})
    return Learned((call, found[w.id][call.id]) for w in workflows for call in _seen(w))


def _seen(workflow: Workflow) -> Iterable[Seen]:
    """The calls of a workflow in the order in which they began."""
    visits: Counter[str] = Counter()
    for name, vertex in workflow.vertices.items():
        if is_sent(vertex):
            visits[vertex.node] += 1
            yield Seen(name, workflow.id, workflow.graph, vertex.node, visits[vertex.node])
