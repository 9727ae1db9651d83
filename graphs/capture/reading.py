"""Which streamed answers the running code has read part of: what it begins now, it begins on that.

Code belongs to a thread of control: a thread, and a task of asyncio in it. It has read what that one took of a stream,
what others took for it (short tasks, as `asyncio.wait_for` starts them, and LangChain runs that it began), and what its
parents had taken when they started it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID

from rejoule.graphs.capture.guard import Guard
from rejoule.graphs.places.hands import Control, control

Chain = Mapping[UUID, Control]
"""LangChain runs around something, innermost first, and where each was begun."""


@dataclass(eq=False, slots=True)
class Reading:
    """How far a client has read one answer."""

    call: str
    task: str
    chain: Chain
    sent_in: Control
    unseen: bool = False
    """The client's reading cannot be seen: what it was sent, the code that asked for it has."""
    taken: int = 0
    """Pieces of its body that the client has in its hands."""
    by: dict[Control, None] = field(default_factory=dict)
    """Who took them, the last one last."""
    taken_in: dict[str, int] = field(default_factory=dict)
    """How many had been taken when code of a task last took one."""
    left: bool = False
    """The task that began it has ended; its thread may be another's by now."""

    @property
    def last_by(self) -> Control:
        return next(reversed(self.by))

    @property
    def by_helper(self) -> bool:
        """Whether a task took the last piece that is over now: somebody else has it, who waited for that task."""
        task = self.last_by[1]
        return task is not None and ((found := task()) is None or found.done())

    def given_to(self, chain: Chain) -> bool:
        """Whether it is read in a run that the running code, or who started it, began, and that hands pieces on."""
        begun = _BEGUN.get()
        runs = [run for run in self.chain if run in begun and run not in chain]
        return bool(runs) and (self.by_helper or self.last_by in (self.chain[run] for run in runs))


Part = tuple[str, int]
"""A call, and how many pieces of its answer's body the client had taken."""

_KNOWN: ContextVar[tuple[tuple[Reading, int], ...]] = ContextVar("rejoule_known", default=())
"""What was sent in this context, with what was taken in it; one that is copied from it inherits that."""


_BEGUN: ContextVar[tuple[UUID, ...]] = ContextVar("rejoule_begun", default=())
"""Runs that were begun in this context and have not ended."""


def began(run: UUID) -> None:
    """A run begins, here."""
    _BEGUN.set((*_BEGUN.get(), run))


def ended(run: UUID) -> None:
    """A run has ended."""
    _BEGUN.set(tuple(other for other in _BEGUN.get() if other != run))


class Readings:
    """The answers of one workflow that are being read."""

    def __init__(self, task_here: Callable[[], str | None], guard: Guard) -> None:
        """``task_here`` says of which task the running code is part."""
        self._task_here = task_here
        self._open: dict[Reading, None] = {}
        self.guard = guard

    def begin(self, call: str, task: str, chain: Chain, by: Control | None = None) -> Reading:
        """A task sends a request, here, or in a thread of control whose reading cannot be seen."""
        reading = Reading(call, task, chain, by or control(), by is not None)
        if by is None:
            self._know(reading)
        return reading

    def take(self, reading: Reading) -> None:
        """The client took one more piece, here."""
        here = reading.sent_in if reading.unseen else control()
        task = reading.task if reading.unseen else self._task_here()
        with self.guard:
            reading.taken += 1
            reading.by.pop(here, None)
            reading.by[here] = None
            if task is not None:
                reading.taken_in[task] = reading.taken
            self._open[reading] = None
        if not reading.unseen:
            self._know(reading)

    def close(self, reading: Reading) -> None:
        """The client lets go of it."""
        with self.guard:
            self._open.pop(reading, None)

    def leave(self, task: str) -> tuple[Part, ...]:
        """A task has ended; what it had read of answers that are still open."""
        with self.guard:
            for reading in self._open:
                reading.left |= reading.task == task
            return tuple((reading.call, reading.taken_in[task]) for reading in self._open if task in reading.taken_in)

    def here(self, chain: Chain, by: Control | None = None) -> tuple[Part, ...]:
        """What the running code, or that of ``by``, inside the runs of ``chain``, has read of answers still open."""
        here = by or control()
        with self.guard:
            parts = [(reading.call, _taken_by(reading, chain, here)) for reading in self._open]
        return tuple((call, taken) for call, taken in parts if taken)

    def _know(self, reading: Reading) -> None:
        others = [(other, taken) for other, taken in _KNOWN.get() if other is not reading and other in self._open]
        _KNOWN.set((*others, (reading, reading.taken)))


def _taken_by(reading: Reading, chain: Chain, here: Control) -> int:
    """How many pieces of it the code that runs ``here``, inside the runs of ``chain``, has."""
    known = dict(_KNOWN.get())
    if reading.left:
        return known.get(reading, 0)
    # A run around both says nothing about which of them waits for the other.
    ours = {here, *(where for run, where in chain.items() if run not in reading.chain)}
    theirs = {*reading.by, *(where for run, where in reading.chain.items() if run not in chain)}
    helped = reading.by_helper
    if helped:
        theirs.add(reading.sent_in)
    if ours & theirs or (helped and reading in known) or reading.given_to(chain):
        return reading.taken
    return known.get(reading, 0)
