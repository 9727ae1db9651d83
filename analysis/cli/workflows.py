"""The figures of workflows on a terminal, for ``rejoule energy``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rejoule.analysis.energy import Spent

SUCCESS: Final = "energy per success"
HEADS: Final = {
    "workflow latency p50": "p50",
    "workflow latency p95": "p95",
    "workflow latency p99": "p99",
    "energy per workflow": "joules each",
    SUCCESS: "a success",
    "workflows an hour a GPU": "an hour a GPU",
    "workflows an hour a user": "a user",
    "slowdown by waiting": "slowdown",
    "slowdown by waiting, most": "most",
    "Jain's index": "Jain",
    "held time per workflow": "held",
    "queue time per workflow": "queued",
    "cached share of prompts": "cached",
}
"""What figures are called above a column; two tables, so that each fits a terminal."""
TABLES: Final = (tuple(HEADS)[:7], tuple(HEADS)[7:])


def print_workflows(found: Sequence[Spent]) -> None:
    """Of the configurations of one trace: a line a figure for one of them, else a line a configuration."""
    from rejoule.analysis.cli.console import say, show

    known = [{told.name: told for told in spent.figures if told.value is not None} for spent in found]
    if not any(known):
        return
    if len(found) == 1:
        title = f"workflows: {found[0].workflows} complete" + (f", {found[0].trials} trials" * (found[0].trials > 1))
        show(title, ("", "", "95 %"), [(told.name, told.mean, told.half_width) for told in known[0].values()])
    else:
        for table in TABLES:
            # A column only where somebody said which workflows succeeded.
            names = [name for name in table if name != SUCCESS or any(name in told for told in known)]
            rows = [
                (spent.label, *(told[name].mean if name in told else "" for name in names))
                for spent, told in zip(found, known, strict=True)
            ]
            show(f"{found[0].trace}: workflows", ("configuration", *map(HEADS.__getitem__, names)), rows)
    for note in dict.fromkeys(note for spent in found for note in spent.figure_notes):
        of = [spent.label for spent in found if note in spent.figure_notes]
        where = "" if len(of) == len(found) else f"{', '.join(of)}: "
        say(f"{where}{note}", "dim")
