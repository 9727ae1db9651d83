"""Configurations and traces in, a run folder out: checks and plans all, then opens engines and makes the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rejoule.replay.check import check_configurations, check_models, check_size
from rejoule.replay.engines.fine_loop import fine_loop
from rejoule.replay.engines.open import Engines
from rejoule.replay.experiment import run_experiment
from rejoule.replay.knobs.setting import KnobRefused
from rejoule.replay.plan import plan
from rejoule.replay.protocol.preparation import Preparation
from rejoule.traces import Trace
from rejoule.traces.event_loops import finished
from rejoule.traces.run import CallResult, Configuration, Run
from rejoule.traces.runs import Experiment, PlannedRun, held_alone
from rejoule.traces.store import trace_digest
from rejoule.traces.terminal import say


class Observer(Protocol):
    """Is told what happens, in the order in which it does."""

    def found(self, run: PlannedRun) -> None:
        """The folder holds it already."""

    def begin(self, run: PlannedRun) -> None: ...

    def note(self, text: str) -> None:
        """What is being waited for."""

    def answer(self, result: CallResult) -> None: ...

    def finish(self, run: Run) -> None: ...

    def refuse(self, run: PlannedRun, reason: KnobRefused) -> None:
        """It is left out."""


def planned(
    traces: Mapping[str, Trace], configurations: Sequence[Configuration], *, trials: int, seed: int
) -> Experiment:
    """Raises RejouleError for a configuration that cannot be run, and for an experiment beyond all measure."""
    check_configurations(configurations)
    check_size(traces, configurations, trials)
    check_models(traces, configurations)
    digests = {name: trace_digest(trace) for name, trace in traces.items()}
    return plan(digests, configurations, trials=trials, seed=seed)


def execute(experiment: Experiment, traces: Mapping[str, Trace], folder: Path, observer: Observer) -> None:
    """Makes the runs that the folder does not hold yet, in an event loop of its own. Raises RejouleError."""
    with held_alone(folder, lambda text: say(f"note: {text}", err=True)):
        finished(lambda: _execute(experiment, traces, folder, observer), fine_loop)


async def _execute(experiment: Experiment, traces: Mapping[str, Trace], folder: Path, observer: Observer) -> None:
    async with Engines(folder / "servers", observer.note) as engines:
        await run_experiment(
            experiment,
            traces,
            folder,
            engines.open,
            preparation=Preparation(observer.note, engines.cool),
            prepare=engines.prepare,
            attest=engines.attest,
            on_found=observer.found,
            on_begin=observer.begin,
            on_answer=observer.answer,
            on_run=observer.finish,
            on_refused=observer.refuse,
        )
