"""The figures of workflows, run by run, for people: two tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from rejoule.replay.cli.tables import figure, named
from rejoule.traces.figures import Figures, figures
from rejoule.traces.percentiles import unresolved
from rejoule.traces.run import Run
from rejoule.traces.terminal import console, shown

Column = tuple[str, Callable[[Figures], str]]

A_SUCCESS: Final = "J/success"


def number(value: float | None) -> str:
    """Three digits or more, as short as that can be; a dash where there is none."""
    size = abs(value or 0.0)
    return figure(value, ",.0f" if size >= 100 else ".1f" if size >= 10 else ".2f")


def _percentile(percent: int) -> Column:
    def cell(found: Figures) -> str:
        mark = "*" if percent in unresolved(found.workflows) else ""
        return number(getattr(found, f"workflow_p{percent}_s")) + mark

    return f"p{percent} s", cell


TABLES: Final[Sequence[tuple[str, Sequence[Column]]]] = (
    (
        "flows: complete workflows; p50, p95, p99: their times; J/flow: joules of the whole run for each; an hour: "
        "workflows by makespan and GPU, and by their mean time for a user who sends one after another",
        (
            ("flows", lambda f: f"{f.workflows:,}"),
            *map(_percentile, (50, 95, 99)),
            ("J/flow", lambda f: number(f.workflow_j)),
            (A_SUCCESS, lambda f: number(f.success_j)),
            ("/h GPU", lambda f: number(f.workflows_per_gpu_h)),
            ("/h user", lambda f: number(f.workflows_per_user_h)),
        ),
    ),
    (
        "slowed: time by the time without waiting, mean and most of workflows; Jain: how alike workflows were in "
        "that, 1 is all alike; held: by the client, queued: in the engine, seconds of a workflow's calls together, and "
        "by its time; cached: of prompt tokens",
        (
            ("slowed", lambda f: number(f.slowdown)),
            ("most", lambda f: number(f.slowdown_most)),
            ("Jain", lambda f: number(f.jain)),
            ("held s", lambda f: number(f.held_s)),
            ("", lambda f: figure(f.held_share, ".0%")),
            ("queued s", lambda f: number(f.queued_s)),
            ("", lambda f: figure(f.queued_share, ".0%")),
            ("cached", lambda f: figure(f.cached_share, ".0%")),
        ),
    ),
)


def print_figures(runs: Sequence[Run]) -> None:
    """One row a run in each table; below them, what is not known and why."""
    found = [figures(run) for run in runs]
    trials = len({run.trial for run in runs}) > 1
    names, out = named(runs), console()
    judged = any(told.success_j is not None for told in found)
    for caption, every in TABLES:
        columns = [column for column in every if judged or column[0] != A_SUCCESS]
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("configuration", overflow="fold")
        for head in (*(["trial"] if trials else []), *(head for head, _ in columns)):
            table.add_column(head, justify="right", no_wrap=True)
        last = None
        for run, told in zip(runs, found, strict=True):
            if last != run.trace:
                table.add_row(Text(shown(run.trace), style="dim"))
            trial = [str(run.trial)] if trials else []
            table.add_row(Text(shown(names[run.id])), *trial, *(cell(told) for _, cell in columns))
            last = run.trace
        out.print()
        out.print(table)
        out.print(Text(caption, style="dim"))
    for note in dict.fromkeys(note for told in found for note in told.notes):
        of = dict.fromkeys(run.trace for run, told in zip(runs, found, strict=True) if note in told.notes)
        out.print(Text(shown(f"{', '.join(of)}: {note}"), style="dim"))
