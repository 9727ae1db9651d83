"""What a person sees while an experiment runs, and what a machine reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal

import click
import orjson
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from rejoule.replay.knobs.setting import KnobRefused
from rejoule.traces import Trace
from rejoule.traces.run import CallResult, Run
from rejoule.traces.runs import Experiment, PlannedRun, finished, load_run
from rejoule.traces.summary import described, summary
from rejoule.traces.terminal import console, say
from rejoule.traces.work import account

Show = Literal["bars", "json", "nothing"]


class Progress:
    """Two bars on stderr, runs and the calls of the present one; or a JSON object on stdout for each finished run; or
    nothing."""

    def __init__(
        self, experiment: Experiment, folder: Path, traces: Mapping[str, Trace], *, show: Show = "bars"
    ) -> None:
        self.runs: list[Run] = []
        self.refused: list[KnobRefused] = []
        """The reason of each run that was left out."""
        self._folder = folder
        self._calls = {name: account(trace).replayed.calls for name, trace in traces.items()}
        self._show = show
        self._description, self._total = "", 0
        self._waiting = False
        self._bars = Bars(
            TextColumn("{task.description:32.32}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console(stderr=True),
            disable=show != "bars",
            transient=True,
            # Drawing takes turns from the thread that sends.
            refresh_per_second=2,
        )
        done = len(finished(folder) & {run.id for run in experiment.runs})
        self._all = self._bars.add_task("runs", total=len(experiment.runs), completed=done)
        self._run = self._bars.add_task("", total=None)

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def found(self, run: PlannedRun) -> None:
        if self._show == "json":
            click.echo(orjson.dumps(summary(load_run(self._folder, run.id))).decode())

    def begin(self, run: PlannedRun) -> None:
        self._description = f"{run.trace}: {described(run.configuration)}"
        self._total = self._calls[run.trace] * run.configuration.loops
        self._bars.reset(self._run, description=self._description, total=self._total)

    def note(self, text: str) -> None:
        """Says what is being waited for."""
        self._bars.reset(self._run, description=text, total=None)
        self._waiting = True

    def answer(self, result: CallResult) -> None:
        if self._waiting:
            self._bars.reset(self._run, description=self._description, total=self._total)
            self._waiting = False
        self._bars.advance(self._run)

    def refuse(self, run: PlannedRun, reason: KnobRefused) -> None:
        """Says, once for each reason, that runs are left out."""
        if str(reason) not in map(str, self.refused):
            say(f"warning: {run.id} is left out: {reason}", err=True)
        self.refused.append(reason)
        self._bars.advance(self._all)

    def finish(self, run: Run) -> None:
        self.runs.append(run)
        self._bars.advance(self._all)
        if self._show == "json":
            click.echo(orjson.dumps(summary(run)).decode())
