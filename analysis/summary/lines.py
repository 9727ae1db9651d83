"""The lines of a table of joules, those of nodes and workflows and those that no call owes; and what is said below."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rejoule.analysis.attribution.result import WITHOUT_WORK
from rejoule.traces.clock_curve import curve_notes
from rejoule.traces.modelled import option_notes, worth_notes
from rejoule.traces.run import Run
from rejoule.traces.work import sentences

NO_AGENT: Final = "no agent"
"""The line of calls of no agent, or of one without a name."""

RESERVED: Final = frozenset((*WITHOUT_WORK, NO_AGENT, "all calls", "total", "sum", "of the total"))
"""What tables call lines of their own."""


def work_notes(runs: Iterable[Run]) -> Iterable[str]:
    """What of the recorded work the runs left out or did otherwise, and what was modelled unseen, each said once."""
    runs = tuple(runs)
    works = (run.certificate.work for run in runs)
    yield from option_notes(runs)
    yield from dict.fromkeys(sentence for work in works if work is not None for sentence in sentences(work))


def run_notes(runs: Iterable[Run]) -> Iterable[str]:
    """The same, and what the profile and an assumed clock curve may put figures off by."""
    runs = tuple(runs)
    yield from worth_notes(runs)
    yield from curve_notes(runs)
    yield from work_notes(runs)


def line(name: str | None) -> str:
    """What a node, an agent or a workflow is called in tables and JSON: in quotes where it could be taken for a
    reserved line. ``None`` is no agent.

    Different names stay different.
    """
    if name is None:
        return NO_AGENT
    quoted = len(name) > 1 and name.startswith('"') and name.endswith('"')
    return f'"{name}"' if name in RESERVED or quoted else name


def agents(run: Run) -> tuple[str | None, ...]:
    """The agents among which a run's joules can be divided, in the order of their calls: several, or none."""
    found = tuple(dict.fromkeys(call.agent for call in run.calls))
    return found if len(found) > 1 else ()


def quoted_notes(runs: Iterable[Run]) -> Iterable[str]:
    """Which names of nodes and agents are quoted, said once for all of them."""
    names = (name for run in runs for name in (*(call.node for call in run.calls), *agents(run)))
    found = [line(name) for name in dict.fromkeys(names) if name is not None and line(name) != name]
    if found:
        yield f"named by the workload itself, and therefore in quotes: {', '.join(found)}"
