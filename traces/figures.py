"""The figures of a run by which what serves workflows is judged: their time, throughput, joules, waiting and fairness.

All but ``cached_share`` are of complete workflows. A *user* sends one workflow after another, as in the job Pareto of
TensorRT-LLM: workflows an hour a user against workflows an hour a GPU. Fairness is the index of Jain, Chiu and Hawe
(DEC-TR-301, 1984).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum, prod
from typing import Final

from rejoule.traces.arrivals import users_of
from rejoule.traces.engine_options import GPUS
from rejoule.traces.loops import pass_of
from rejoule.traces.percentiles import percentile, unresolved_note
from rejoule.traces.run import Run
from rejoule.traces.success import succeeded, success_j, success_notes
from rejoule.traces.waits import Wait, served, waits
from rejoule.traces.words import counted

STARVED: Final = 0.05
"""From this share of the time on in which workflows arrive and no call is there, faster arrivals would fill it."""
SPREAD: Final = 0.5
"""From this share of a run on, arrivals hold its throughput near their own."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run. What cannot be known is ``None``, and ``notes`` say why."""

    workflows: int
    """Complete ones with calls."""
    workflow_mean_s: float | None
    """From arrival to end, as are the percentiles."""
    workflow_p50_s: float | None
    workflow_p95_s: float | None
    workflow_p99_s: float | None
    workflow_j: float | None
    """GPU joules of the whole run, idle ones with it, for each complete workflow."""
    succeeded: int | None
    """Complete ones that reached their goal, as recorded; ``None`` where that is not known of all of them."""
    success_j: float | None
    """GPU joules of the whole run, those of workflows without success with it, for each that succeeded."""
    gpus: int | None
    """Those that the engine says it uses, else those whose energy was measured."""
    workflows_per_gpu_h: float | None
    """Complete workflows by makespan and GPUs."""
    workflows_per_user_h: float | None
    """3600 by the mean time of a workflow in seconds."""
    slowdown: float | None
    """Mean over workflows of time / (time − stalled time): by how much waiting made them longer; 1 is not at all."""
    slowdown_most: float | None
    """Of the workflow that waiting made longest."""
    jain: float | None
    """(Σx)² / (n Σx²), from 1/n to 1 (all alike), of x = 1 / slowdown."""
    cached_share: float | None
    """Of the prompt tokens of answered calls, those that the prefix cache held."""
    held_s: float | None
    """By the client: from due to sent, summed over a workflow's calls; mean over workflows. On real engines the
    client's own lateness is in it, which is milliseconds."""
    held_share: float | None
    """The same of all workflows, by their time; above 1 where several calls of a workflow were held at once."""
    queued_s: float | None
    """In the engine's queue, likewise."""
    queued_share: float | None
    arrival_share: float | None
    """The part of the makespan over which workflows arrived; 0 where all came at once."""
    starved_share: float | None
    """The part of that time without a call that was due, held or served; ``None`` where all came at once."""
    notes: tuple[str, ...]


def figures(run: Run) -> Figures:
    found = waits(run)
    times = [wait.time_s for wait in found]
    mean_s = _mean(times)
    gpus = gpu_count(run)
    slowdowns = _slowdowns(found)
    held = [wait.held_s for wait in found]
    queued = _known(wait.queued_s for wait in found)
    arrival, starved = _arrivals(run)
    by_gpu = None
    if gpus is not None and found and run.makespan_s > 0.0:
        by_gpu = 3600.0 * len(found) / run.makespan_s / gpus
    return Figures(
        len(found),
        mean_s,
        percentile(times, 50),
        percentile(times, 95),
        percentile(times, 99),
        workflow_j(run),
        succeeded(run),
        success_j(run),
        gpus,
        by_gpu,
        3600.0 / mean_s if mean_s else None,
        _mean(slowdowns or ()),
        max(slowdowns or (), default=None),
        jain([1.0 / s for s in slowdowns or ()]),
        _cached_share(run),
        _mean(held),
        _ratio(held, times),
        _mean(queued or ()),
        _ratio(queued or (), times),
        arrival,
        starved,
        tuple(_notes(run, found, gpus, arrival, starved)),
    )


def workflow_j(run: Run) -> float | None:
    """GPU joules of the whole run for each complete workflow."""
    joules, workflows = run.energy.gpu_j, len(served(run))
    return joules / workflows if joules is not None and workflows else None


def gpu_count(run: Run) -> int | None:
    """The GPUs that a run's engine says it uses, else those whose energy was measured; ``None`` if neither is known."""
    told = run.engine.get("gpus")
    if isinstance(told, int) and told > 0:
        return told
    sizes = [run.engine.get(f"{kind}_parallel_size") for kind in ("tensor", "pipeline", "data")]
    known = [size for size in sizes if isinstance(size, int) and size > 0]
    if len(known) == len(sizes):
        return prod(known)
    return len(run.conditions.gpus) or None if run.conditions is not None else None


def jain(shares: Sequence[float]) -> float | None:
    """The fairness index of what each of several got: 1 where all got alike, 1/n where one got all.

    It does not depend on the unit of what they got; ``None`` where nobody got anything.
    """
    squares = fsum(x * x for x in shares)
    return min(1.0, fsum(shares) ** 2 / (len(shares) * squares)) if squares > 0.0 else None


def _slowdowns(found: Sequence[Wait]) -> list[float] | None:
    """By waiting, of each workflow; ``None`` where one cannot be told."""
    progress = _known(wait.progress for wait in found)
    if not progress or min(progress) <= 0.0:
        return None
    return [1.0 / share for share in progress]


def tensor_parallel(run: Run) -> int:
    """Over how many GPUs each layer was split, as far as it is told, else 1."""
    return told_tensor_parallel(run) or 1


def told_tensor_parallel(run: Run) -> int | None:
    """The same by the option, else as the engine or its profile says, else 1; a server that was found running may not
    say, and then it is ``None``."""
    found = (run.configuration.options.get(GPUS), run.engine.get(GPUS), run.engine.get("gpus"))
    started = 1 if run.configuration.engine in ("sim", "vllm") else None
    return next((size for size in found if isinstance(size, int) and size > 0), started)


def _cached_share(run: Run) -> float | None:
    answered = [call for call in run.calls if call.error is None]
    prompt, cached = (_known(getattr(call, name) for call in answered) for name in ("prompt_tokens", "cached_tokens"))
    return _ratio(cached or (), prompt or ())


def _arrivals(run: Run) -> tuple[float | None, float | None]:
    """The share of the makespan over which workflows arrived, and that of this time in which no call was there."""
    passes = defaultdict[int, list[float]](list)
    for workflow in run.workflows:
        passes[pass_of(workflow.id)].append(workflow.arrival_s)
    spans = [(min(arrived), max(arrived)) for arrived in passes.values()]
    whole_s = fsum(end_s - start_s for start_s, end_s in spans)
    if not spans or run.makespan_s <= 0.0:
        return None, None
    if whole_s <= 0.0:
        return 0.0, None
    busy_s, until_s = 0.0, 0.0
    for due_s, end_s in sorted((call.due_s, call.end_s) for call in run.calls):
        begun_s, until_s = max(due_s, until_s), max(end_s, until_s)
        busy_s += fsum(max(0.0, min(until_s, b) - max(begun_s, a)) for a, b in spans)
    return whole_s / run.makespan_s, max(0.0, 1.0 - busy_s / whole_s)


def _notes(
    run: Run, found: Sequence[Wait], gpus: int | None, arrival: float | None, starved: float | None
) -> Iterable[str]:
    lost = sum(not w.complete for w in run.workflows)
    if lost:
        yield f"{counted(lost, 'workflow')} did not finish: in no figure of workflows, but their joules are in them"
    bare = len(run.workflows) - lost - len(found)
    if bare:
        yield f"{counted(bare, 'workflow')} had no call to replay: in no figure of workflows"
    yield from success_notes(run)
    if (note := unresolved_note("workflow latency", "workflow", len(found))) is not None:
        yield note
    if found and gpus is None:
        yield "how many GPUs served is not known, so neither are workflows an hour a GPU"
    if found and any(wait.queued_s is None for wait in found):
        yield (
            "what waited in the server is not known from outside: queue time, slowdown and Jain's index take the "
            "engine's steps (--engine vllm, or sim)"
        )
    if arrival is None or not found:
        return
    how = run.configuration.arrivals
    if starved is not None and starved >= STARVED:
        yield (
            f"arrivals ({how}), not the engine, set the workflows an hour: while they came, the engine was at times "
            "without calls"
        )
    elif arrival >= SPREAD and users_of(how) is None:
        yield f"arrivals ({how}) may have set the workflows an hour: they came over most of the run"


def _known(values: Iterable[float | None]) -> list[float] | None:
    """All of them, or ``None`` where one is not known."""
    found = list(values)
    known = [v for v in found if v is not None]
    return known if len(known) == len(found) else None


def _mean(values: Sequence[float]) -> float | None:
    return fsum(values) / len(values) if values else None


def _ratio(part: Sequence[float], whole: Sequence[float]) -> float | None:
    total = fsum(whole)
    return fsum(part) / total if part and total > 0.0 else None
