"""What is due, given what finished.

Rule 1: everything that decides when a call goes out lives in this file.
Rule 2: it has no clock and does no I/O; whoever drives it says what time it is.

A vertex begins when all that it waits for has ended and its recorded gap has passed. One that began on part of an
answer waits until so many tokens of it have come, scaled as outputs are, or until it has ended if it is shorter. Tool
calls end by themselves after their recorded time; calls that are left out are waited out like tool calls. Ties are
broken by the order of workflows and of vertices in the trace, then by a counter.

With a policy, what is due waits at its gate (`rejoule.replay.policy.gate`), and what goes out is its choice.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Literal

from rejoule.replay.exactness.requests import scaled_length
from rejoule.replay.places import Places
from rejoule.replay.policy.gate import Gate
from rejoule.traces.model import Call, EdgeSet, ToolCall, Vertex, Workflow
from rejoule.traces.work import left_out

Happening = Literal["arrive", "begin", "emit", "end"]


@dataclass(frozen=True, slots=True)
class Due:
    """A call that is to be sent now."""

    call: Call
    due_s: float
    """When all that it waited for had ended and its gap had passed."""
    ready_s: float
    """When it could be sent: when it was due, or later if it then waited for a place among those in flight."""
    tell_at: tuple[int, ...] = ()
    """The numbers of tokens of its answer of which the schedule has to learn that they have come, rising."""
    priority: int | None = None
    """What a policy would have the engine's queue go by, lower first; ``None`` without a policy."""


@dataclass(frozen=True, slots=True)
class Waited:
    """A tool call, or a call that is left out, that was waited out."""

    vertex: Vertex
    start_s: float
    end_s: float


class Schedule:
    """The order of events of one replay.

    Times are seconds from its start. A workflow whose arrival is infinite comes when another one has ended and its
    user has thought, in the order of the trace: a closed loop of users. ``places`` limit the calls in flight, and
    without any nothing does; workflows that arrived first have the first claim on a free place, so that a limit closes
    the loop over workflows too. With a ``gate`` its policy decides what takes a free place, and whether anything does.
    """

    def __init__(
        self,
        workflows: Sequence[Workflow],
        arrivals_s: Sequence[float],
        *,
        edge_set: EdgeSet = "barrier",
        think_s: float = 0.0,
        time_scale: float = 1.0,
        output_scale: float = 1.0,
        places: Places | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.waited: list[Waited] = []
        self.arrival_s: dict[str, float] = {}
        """Of the workflows that have arrived, or of which it is known when they will."""
        self.finished_s: dict[str, float] = {}
        self.skipped: set[str] = set()
        self._think_s = think_s
        self._to_come: deque[str] = deque()
        """Workflows that wait for a user."""
        self._time_scale = time_scale
        self._output_scale = output_scale
        self._places = Places(None) if places is None else places
        self._gate = gate
        self._counter = count()
        self._events: list[tuple[float, int, Happening, str, int]] = []
        self._held: list[tuple[int, float, int, str]] = []
        self._vertex: dict[str, Vertex] = {}
        self._gap_s: dict[str, float] = {}
        self._missing: dict[str, int] = {}
        self._successors: dict[str, list[str]] = defaultdict(list)
        self._on_part: dict[str, dict[int, list[str]]] = {}
        """By call and by recorded tokens of its answer, what begins on that part and has not been let go yet."""
        self._roots: dict[str, list[str]] = {}
        self._rank = {w.id: i for i, w in enumerate(workflows)}
        for workflow in workflows:
            self._plan(workflow, edge_set)
        self._left = len(self._vertex)
        self._left_of = Counter(vertex.workflow for vertex in self._vertex.values())
        at_s = dict(zip(self._rank, arrivals_s, strict=True))
        self._to_come.extend(name for name in self._rank if at_s[name] == inf)
        for name in self._rank:
            if at_s[name] != inf:
                self._arrive(name, at_s[name])

    @property
    def done(self) -> bool:
        return self._left == 0

    @property
    def next_due_s(self) -> float | None:
        """When something will be due, or the policy is to be asked; ``None`` if only a call's end can bring more."""
        next_s = self._events[0][0] if self._events else None
        ask_s = None if self._gate is None else self._gate.ask_again_s
        return min((at_s for at_s in (next_s, ask_s) if at_s is not None), default=None)

    def due(self, now_s: float) -> list[Due]:
        """The calls that may go out at ``now_s``, in order."""
        while self._events and self._events[0][0] <= now_s:
            at, _, happening, name, tokens = heappop(self._events)
            if happening == "arrive":
                for root in self._roots[name]:
                    self._happen(at + self._gap_s[root], "begin", root)
            elif happening == "begin":
                self._begin(name, at)
            elif happening == "emit":
                self._let_go(name, tokens, at)
            else:
                self._end(name, at)
        found = self._released(now_s) if self._gate is not None else self._first_come()
        self._places.close()
        return found

    def emitted(self, name: str, tokens: int, at_s: float) -> None:
        """Takes note that so many tokens of the answer to a call that was due have come."""
        for recorded in sorted(self._on_part.get(name, ())):
            if scaled_length(recorded, self._output_scale) <= tokens:
                self._let_go(name, recorded, at_s)

    def finished(self, name: str, at_s: float) -> None:
        """Takes note that a call that was due has ended well."""
        self._places.give(at_s)
        if self._gate is not None:
            self._gate.ended(name, at_s)
        self._end(name, at_s)

    def failed(self, name: str, at_s: float = 0.0) -> list[str]:
        """Takes note that a call that was due has failed; returns the vertices that will therefore never begin."""
        self._places.give(at_s)
        if self._gate is not None:
            self._gate.ended(name, at_s, failed=True)
        lost, reached = [name], {name}
        for vertex in lost:
            on_part = [target for targets in self._on_part.get(vertex, {}).values() for target in targets]
            new = [s for s in dict.fromkeys([*self._successors[vertex], *on_part]) if s not in reached]
            reached.update(new)
            lost += new
        for vertex in sorted(reached - self.skipped):
            self._passed(vertex, at_s)
        dropped = [v for v in lost[1:] if v not in self.skipped]
        self.skipped |= reached
        return dropped

    def _first_come(self) -> list[Due]:
        """What goes out without a policy: by the order of workflows, then of being due."""
        found = []
        while self._held and self._places.free != 0:
            _, due_s, _, name = heappop(self._held)
            call = self._vertex[name]
            assert isinstance(call, Call)
            found.append(Due(call, due_s, max(due_s, self._places.take()), self._tell_at(name)))
        return found

    def _released(self, now_s: float) -> list[Due]:
        """What the policy sends."""
        assert self._gate is not None
        return [
            Due(call, due_s, max(ready_s, self._places.take()), self._tell_at(call.id), priority)
            for call, due_s, ready_s, priority in self._gate.ask(now_s, self._places.free, bool(self._events))
        ]

    def _tell_at(self, name: str) -> tuple[int, ...]:
        return tuple(sorted({scaled_length(tokens, self._output_scale) for tokens in self._on_part.get(name, ())}))

    def _plan(self, workflow: Workflow, edge_set: EdgeSet) -> None:
        waits = workflow.predecessors(edge_set)
        for name, vertex in workflow.vertices.items():
            self._vertex[name] = vertex
            self._gap_s[name] = workflow.gaps_ns[name] / 1e9 * self._time_scale
            parts = workflow.streamed.get(name, {})
            self._missing[name] = len(waits[name]) + len(parts)
            for source in waits[name]:
                self._successors[source].append(name)
            for source, tokens in parts.items():
                self._on_part.setdefault(source, {}).setdefault(tokens, []).append(name)
        self._roots[workflow.id] = [v for v in workflow.vertices if not self._missing[v]]

    def _begin(self, name: str, at_s: float) -> None:
        vertex = self._vertex[name]
        if isinstance(vertex, ToolCall) or left_out(vertex) is not None:
            end_s = at_s + (vertex.end_ns - vertex.start_ns) / 1e9 * self._time_scale
            self.waited.append(Waited(vertex, at_s, end_s))
            if isinstance(vertex, Call):
                for tokens in self._on_part.get(name, ()):
                    took_s = (vertex.token_ns(tokens) - vertex.start_ns) / 1e9 * self._time_scale
                    self._happen(at_s + took_s, "emit", name, tokens)
            self._happen(end_s, "end", name)
        elif self._gate is not None:
            self._gate.add(vertex, at_s)
        else:
            heappush(self._held, (self._rank[vertex.workflow], at_s, next(self._counter), name))

    def _end(self, name: str, at_s: float) -> None:
        self._passed(name, at_s)
        self.finished_s[name] = at_s
        for tokens in sorted(self._on_part.get(name, ())):
            self._let_go(name, tokens, at_s)
        for successor in self._successors[name]:
            self._ready(successor, at_s)

    def _passed(self, name: str, at_s: float) -> None:
        """A vertex has ended, or will never begin."""
        workflow = self._vertex[name].workflow
        self._left -= 1
        self._left_of[workflow] -= 1
        if not self._left_of[workflow]:
            if self._gate is not None:
                self._gate.over(workflow, at_s)
            self._user_is_free(at_s)

    def _user_is_free(self, at_s: float) -> None:
        if self._to_come:
            self._arrive(self._to_come.popleft(), at_s + self._think_s)

    def _arrive(self, name: str, at_s: float) -> None:
        self.arrival_s[name] = at_s
        if self._gate is not None:
            self._gate.arrives(name, at_s)
        self._happen(at_s, "arrive", name)
        if not self._roots[name]:
            self._user_is_free(at_s)

    def _let_go(self, name: str, tokens: int, at_s: float) -> None:
        """That part of an answer is there."""
        for target in self._on_part[name].pop(tokens, ()):
            self._ready(target, at_s)

    def _ready(self, name: str, at_s: float) -> None:
        """One less that it waits for."""
        self._missing[name] -= 1
        if not self._missing[name] and name not in self.skipped:
            self._happen(at_s + self._gap_s[name], "begin", name)

    def _happen(self, at_s: float, happening: Happening, name: str, tokens: int = 0) -> None:
        heappush(self._events, (at_s, next(self._counter), happening, name, tokens))
