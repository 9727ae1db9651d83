"""Answers to what a stopped graph asks: each in its turn, or for what it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langgraph.types import Command, Interrupt, StateSnapshot

UNANSWERED: Final = object()
"""Nothing is left to go on with."""


class Answers:
    """Those of one workflow.

    An answer is given to one pending interrupt after another, in the order of the tasks that ask. A mapping whose
    keys are all ids of pending interrupts, or names of the nodes that ask, answers those instead, whichever is next;
    a mapping with other keys is an answer itself.
    """

    def __init__(self, given: Sequence[Any]) -> None:
        self._left = list(given)

    @property
    def left(self) -> int:
        """Answers that nobody has asked for."""
        return len(self._left)

    def to(self, stopped: StateSnapshot) -> Any:
        """What a stopped graph is resumed with; ``None`` at a breakpoint, ``UNANSWERED`` where no answer is left.

        Interrupts without an answer ask again.
        """
        pending = _pending(stopped)
        if not self._left:
            return UNANSWERED
        if not pending:
            self._left.pop(0)
            return None
        answers: dict[str, Any] = {}
        while self._left and len(answers) < len(pending):
            answer = self._left.pop(0)
            waiting = [(node, asked) for node, asked in pending if asked.id not in answers]
            named = _named(answer, waiting)
            answers |= named or {waiting[0][1].id: answer}
        return Command(resume=answers)


def _pending(stopped: StateSnapshot) -> list[tuple[str, Interrupt]]:
    return [(task.name, asked) for task in stopped.tasks if task.result is None for asked in task.interrupts]


def _named(answer: Any, waiting: Sequence[tuple[str, Interrupt]]) -> dict[str, Any]:
    """Answers by interrupt id, where the keys of ``answer`` say which; empty where they do not."""
    if not isinstance(answer, Mapping) or not answer:
        return {}
    names = {node for node, _ in waiting} | {asked.id for _, asked in waiting}
    if not answer.keys() <= names:
        return {}
    return {asked.id: answer[key] for node, asked in waiting for key in (node, asked.id) if key in answer}
