"""A trace gone through several times: the same workflows again, under names of their own.

Names of the first pass are those of the trace; those of pass *k* end in ``~k``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from rejoule.traces.errors import RejouleError
from rejoule.traces.model import Trace, Workflow

MARK: Final = "~"


def looped(trace: Trace, loops: int) -> Trace:
    """``trace`` with its workflows ``loops`` times over, pass after pass.

    Raises RejouleError if a workflow's own name looks like that of a later pass.
    """
    taken = [w.id for w in trace.workflows if pass_of(w.id) > 1]
    if taken:
        raise RejouleError(
            f"workflow {taken[0]} is named like one of a later pass", f"rename it: names may not end in {MARK}NUMBER"
        )
    if loops == 1:
        return trace
    return replace(trace, workflows=tuple(of_pass(w, k) for k in range(1, loops + 1) for w in trace.workflows))


def pass_of(name: str) -> int:
    """The pass, from 1, that a workflow, call or tool call belongs to by its name."""
    _, mark, number = name.rpartition(MARK)
    return int(number) if mark and number.isascii() and number.isdigit() else 1


def recorded_name(name: str) -> str:
    """What a workflow, call or tool call of any pass is called in the trace."""
    return name.rpartition(MARK)[0] if pass_of(name) > 1 else name


def of_pass(workflow: Workflow, number: int) -> Workflow:
    """A workflow with the names that it has in pass ``number``, from 1."""
    return workflow if number == 1 else renamed(workflow, lambda name: f"{name}{MARK}{number}")


def renamed(workflow: Workflow, named: Callable[[str], str]) -> Workflow:
    """A workflow of which all has another name: itself, its tasks, calls and tool calls."""
    own = named(workflow.id)
    return replace(
        workflow,
        id=own,
        tasks=tuple(replace(t, id=named(t.id), workflow=own) for t in workflow.tasks),
        calls=tuple(
            replace(
                c,
                id=named(c.id),
                workflow=own,
                task=named(c.task),
                parts=tuple(p if p.source is None else replace(p, source=named(p.source)) for p in c.parts),
            )
            for c in workflow.calls
        ),
        tool_calls=tuple(replace(t, id=named(t.id), workflow=own, task=named(t.task)) for t in workflow.tool_calls),
        edges=tuple(replace(e, source=named(e.source), target=named(e.target)) for e in workflow.edges),
    )
