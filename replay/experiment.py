"""Runs a plan into a run folder, and takes it up again where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rejoule.replay.engines.base import Answer
from rejoule.replay.replay import OpenEngine, replay
from rejoule.traces import RejouleError, Trace
from rejoule.traces.run import Run
from rejoule.traces.runs import Experiment, PlannedRun, create, finished, save_run
from rejoule.traces.store import load


def load_traces(paths: Sequence[Path], *, salvage: bool = False) -> dict[str, Trace]:
    """Traces by name, which is the file's name without its endings. Raises RejouleError if two share a name."""
    traces: dict[str, Trace] = {}
    for path in paths:
        name = path.name.removesuffix(".zst").removesuffix(".jsonl")
        if name in traces:
            raise RejouleError(f"two traces are called {name}", "rename one of the files")
        traces[name] = load(path, salvage=salvage)
        if not any(call.succeeded for call in traces[name].calls):
            raise RejouleError(f"{path} holds no call that succeeded", "record it again against a server that answers")
    return traces


async def run_experiment(
    experiment: Experiment,
    traces: Mapping[str, Trace],
    folder: Path,
    open_engine: OpenEngine,
    *,
    on_found: Callable[[PlannedRun], None] = lambda _: None,
    on_begin: Callable[[PlannedRun], None] = lambda _: None,
    on_answer: Callable[[Answer], None] = lambda _: None,
    on_run: Callable[[Run], None] = lambda _: None,
) -> None:
    """Makes every run of the plan that the folder does not hold yet; ``on_found`` is told of those that it does."""
    create(folder, experiment, traces)
    done = finished(folder)
    for planned in experiment.runs:
        if planned.id in done:
            on_found(planned)
            continue
        on_begin(planned)
        digest = experiment.traces[planned.trace]
        run = await replay(traces[planned.trace], planned, digest, open_engine, on_answer)
        save_run(folder, run)
        on_run(run)
