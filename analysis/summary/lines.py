"""The lines of a table of joules, those of nodes and workflows and those that no call owes; and what is said below."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rejoule.analysis.attribution.result import WITHOUT_WORK
from rejoule.traces.run import Run
from rejoule.traces.work import sentences

RESERVED: Final = frozenset((*WITHOUT_WORK, "all calls", "total", "sum", "of the total"))
"""What tables call lines of their own."""


def work_notes(runs: Iterable[Run]) -> Iterable[str]:
    """What of the recorded work the runs left out or did otherwise, each said once."""
    works = (run.certificate.work for run in runs)
    yield from dict.fromkeys(sentence for work in works if work is not None for sentence in sentences(work))


def line(name: str) -> str:
    """What a node or a workflow is called in tables and JSON: in quotes where it could be taken for a reserved line.

    Different names stay different.
    """
    quoted = len(name) > 1 and name.startswith('"') and name.endswith('"')
    return f'"{name}"' if name in RESERVED or quoted else name


def quoted_notes(names: Iterable[str]) -> Iterable[str]:
    """Which names of these are quoted, said once for all of them."""
    found = [line(name) for name in dict.fromkeys(names) if line(name) != name]
    if found:
        yield f"named by the workload itself, and therefore in quotes: {', '.join(found)}"
