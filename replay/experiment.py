"""Runs a plan into a run folder, and takes it up again where it stopped."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rejoule.replay.engine import Engine
from rejoule.replay.knobs.setting import KnobRefused, Setting
from rejoule.replay.policy.registry import code_digest
from rejoule.replay.protocol.preparation import OpenEngine, Preparation
from rejoule.replay.replay import replay
from rejoule.traces import RejouleError, Trace
from rejoule.traces.model import Workflow
from rejoule.traces.ran_on import Known, name_of
from rejoule.traces.refused import Refused, save_refused
from rejoule.traces.run import CallResult, Configuration, Run
from rejoule.traces.runs import Experiment, PlannedRun, create, finished, load_run, save_run
from rejoule.traces.store import load
from rejoule.traces.words import counted
from rejoule.traces.work import account, left_out


def load_traces(paths: Iterable[Path], *, salvage: bool = False) -> dict[str, Trace]:
    """Traces by name, which is the file's name without its endings. Raises RejouleError if two share a name."""
    traces: dict[str, Trace] = {}
    for path in paths:
        name = path.name.removesuffix(".zst").removesuffix(".jsonl")
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise RejouleError(f"the name of {path} is no UTF-8", "rename the file: runs are called by it")
        if name in traces:
            raise RejouleError(f"two traces are called {name}", "rename one of the files")
        traces[name] = load(path, salvage=salvage)
    check_traces(traces)
    return traces


def trace_name(trace: Trace) -> str:
    """What a trace without a file is called: its graph, in letters that a file's name may have."""
    return re.sub(r"[^\w.-]+", "-", trace.header.graph.rpartition("/")[2]) or "trace"


def check_traces(traces: Mapping[str, Trace]) -> None:
    """Raises RejouleError for one that has nothing to replay."""
    for name, trace in traces.items():
        if all(left_out(call) is not None for call in trace.calls):
            remedy = "mend the graph" if _failed(trace) else "have a server that answers"
            raise RejouleError(
                f"{name} holds no call that can be replayed{_why(trace)}", f"{remedy}, and record it again"
            )


def _failed(trace: Trace) -> list[Workflow]:
    """Workflows that failed, where none of them came as far as a call."""
    return [w for w in trace.workflows if w.error and not any(other.calls for other in trace.workflows)]


def _why(trace: Trace) -> str:
    """What became of its calls; where none was made, of its workflows."""
    reasons = [f"{counted(named.amount.calls, 'call')}: {named.reason}" for named in account(trace).left_out]
    failed = _failed(trace)
    if failed:
        reasons.append(f"{counted(len(failed), 'workflow')} failed, the first with {failed[0].error}")
    return f" ({'; '.join(reasons)})" if reasons else ""


def _known(experiment: Experiment, folder: Path, done: Collection[str]) -> Known:
    """What the runs that a folder holds ran on."""
    known = Known()
    for planned in experiment.runs:
        if planned.id in done and not known.knows(planned.configuration):
            known.learn(planned.id, planned.configuration, load_run(folder, planned.id).engine)
    return known


def _check_files(known: Known, runs: Iterable[PlannedRun]) -> None:
    """Raises RejouleError where a file that runs of the folder went by, a profile or a policy, is another one now."""
    from rejoule.replay.engines.sim import sim_identity

    for planned in {name_of(planned.configuration): planned for planned in runs}.values():
        c = planned.configuration
        _check_same(known, planned, sim_identity(c) if c.engine == "sim" else {})


def _check_same(known: Known, planned: PlannedRun, identity: Mapping[str, Any]) -> None:
    """Raises RejouleError where a run would go by other things than earlier ones; ``identity`` is what answers it."""
    c = planned.configuration
    code = None if c.policy is None else code_digest(c.policy)
    policy = {} if code is None else {"policy_code": code}
    if (other := known.learn(planned.id, c, {**identity, **policy})) is None:
        return
    run, what = other
    raise RejouleError(
        f"{name_of(c)} is not what it was for {run}, which the folder holds: {what}",
        "replay into a new folder, and compare the two with rejoule diff; or put back what it was",
    )


def _same(known: Known, planned: PlannedRun, open_engine: OpenEngine) -> OpenEngine:
    """Opens engines that are what they were for earlier runs."""

    async def opened(configuration: Configuration, trace: Trace) -> Engine:
        engine = await open_engine(configuration, trace)
        try:
            _check_same(known, planned, engine.identity)
        except RejouleError:
            await engine.close()
            raise
        return engine

    return opened


async def as_it_is(run: Run) -> Run:
    return run


async def run_experiment(
    experiment: Experiment,
    traces: Mapping[str, Trace],
    folder: Path,
    open_engine: OpenEngine,
    *,
    preparation: Preparation | None = None,
    prepare: Callable[[Sequence[Configuration]], Mapping[Setting, KnobRefused]] = lambda _: {},
    attest: Callable[[Run], Awaitable[Run]] = as_it_is,
    on_found: Callable[[PlannedRun], None] = lambda _: None,
    on_begin: Callable[[PlannedRun], None] = lambda _: None,
    on_answer: Callable[[CallResult], None] = lambda _: None,
    on_run: Callable[[Run], None] = lambda _: None,
    on_refused: Callable[[PlannedRun, KnobRefused], None] = lambda *_: None,
) -> None:
    """Makes every run of the plan that the folder does not hold yet; ``on_found`` is told of those that it does.

    ``prepare`` says which settings of knobs are refused before anything starts, and ``attest`` whether a run's held.
    An engine that is not what an earlier run of the folder found under its name ends the experiment with RejouleError.
    A refused setting ends its configurations, not the experiment: their runs are left out, ``refused.json`` keeps the
    reasons, and taking the experiment up tries them again.
    """
    create(folder, experiment, traces)
    done = finished(folder)
    known = _known(experiment, folder, done)
    _check_files(known, [planned for planned in experiment.runs if planned.id in done])
    to_do = [planned for planned in experiment.runs if planned.id not in done]
    refusals = dict(prepare([planned.configuration for planned in to_do]))
    refused: list[Refused] = []
    try:
        for planned in experiment.runs:
            if planned.id in done:
                on_found(planned)
                continue
            setting = Setting.of(planned.configuration)
            if setting not in refusals:
                on_begin(planned)
                try:
                    digest = experiment.traces[planned.trace]
                    trace = traces[planned.trace]
                    opener = _same(known, planned, open_engine)
                    run = await attest(await replay(trace, planned, digest, opener, on_answer, preparation))
                except KnobRefused as reason:
                    refusals[setting] = reason
                else:
                    save_run(folder, run)
                    on_run(run)
                    continue
            refused.append(Refused(planned.id, planned.configuration, str(refusals[setting])))
            on_refused(planned, refusals[setting])
    finally:
        save_refused(folder, refused)
