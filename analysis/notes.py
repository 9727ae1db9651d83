"""What a reader of a comparison has to know besides its figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rejoule.analysis.attribution import Method
from rejoule.analysis.comparison.unseen import unseen_notes
from rejoule.analysis.pairing import LeftOut, Pair, reordered, same_runs
from rejoule.analysis.parts import comparable
from rejoule.analysis.summary.evidence import start_temperatures_c
from rejoule.analysis.summary.lines import agents, quoted_notes, work_notes
from rejoule.analysis.summary.summary import Summary
from rejoule.analysis.summary.trust import UNSEEN, basis, caution, withheld
from rejoule.analysis.summary.workflows import call_notes, figure_notes
from rejoule.traces.chosen import policy_notes
from rejoule.traces.evicted import eviction_notes
from rejoule.traces.modelled import worth_notes
from rejoule.traces.parrot_told import parrot_notes
from rejoule.traces.preempted import preemption_notes
from rejoule.traces.ran_on import contrasts, drifts
from rejoule.traces.warmth import warmth_notes
from rejoule.traces.words import counted


def pair_notes(
    pairs: Sequence[Pair], left_out: Sequence[LeftOut] = (), allow_rejected: bool = False, in_turns: bool = True
) -> Iterable[str]:
    for side in "AB":
        lone = [run for run in left_out if run.side == side]
        if lone:
            names = ", ".join(f"{run.trace} trial {run.trial}" for run in lone)
            yield f"{counted(len(lone), 'run')} of {side} without a counterpart left out: {names}"
    if all(same_runs(p.a, p.b) for p in pairs):
        yield "A and B are the same runs"
    elif not in_turns and any(run.measured for p in pairs for run in (p.a, p.b)):
        yield (
            "A and B did not take turns: what drifted or was restarted between them is in the difference, and no "
            "interval knows of it"
        )
    for side, runs in (("A", [p.a for p in pairs]), ("B", [p.b for p in pairs])):
        said = (*work_notes(runs), *policy_notes(runs), *parrot_notes(runs))
        yield from (f"{side}: {sentence}" for sentence in said)
        traces = dict.fromkeys(run.trace for run in runs)
        for trace in traces:
            place = side if len(traces) == 1 else f"{side}, {trace}"
            yield from (f"{place}: {note}" for note in preemption_notes([run for run in runs if run.trace == trace]))
        yield from (f"{side}: {note}" for note in eviction_notes(runs))
        failed = sum(len(run.failed_calls) for run in runs)
        if failed:
            yield f"{side}: {counted(failed, 'call')} failed; their energy is counted, their latency is not"
        if any(run.certificate.tier == "none" for run in runs):
            yield f"{side} is not certified: nothing proves that both sides did the same work"
        if any(run.energy.gpu_j is None for run in runs):
            yield f"the energy of {side} was not measured in every run"
        rejected = dict.fromkeys(r for run in runs if run.conditions is not None for r in run.conditions.rejected)
        if rejected:
            yield f"the joules of {side} should not be used: {'; '.join(rejected)}"
    doubtful = [p for p in pairs if any(r.conditions is not None and r.conditions.rejected for r in (p.a, p.b))]
    if doubtful:
        trials = ", ".join(f"{p.a.trace} trial {p.a.trial}" for p in doubtful)
        done = "judged all the same" if allow_rejected else "not judged; --allow-rejected judges them all the same"
        yield f"joules of {counted(len(doubtful), 'pair')} with a rejected run are {done}: {trials}"
    apart = start_temperatures_c(run for p in pairs for run in (p.a, p.b))
    if apart is not None:
        yield f"the runs started at {apart[0]:.0f} to {apart[1]:.0f} °C: warmer ones take more"
    if any(p.a.measured != p.b.measured for p in pairs):
        yield "one side is modelled and the other measured: the difference includes the model's error"
        yield from unseen_notes(run for p in pairs for run in (p.a, p.b))
    yield from worth_notes(run for p in pairs for run in (p.a, p.b))
    yield from _drifts(pairs)
    if any(p.a.certificate.digest != p.b.certificate.digest for p in pairs):
        yield "the sides did different work: the difference is not the configuration's alone"
    if any(p.a.certificate.order != p.b.certificate.order and reordered(p) for p in pairs):
        a, b = pairs[0].a.configuration.edge_set, pairs[0].b.configuration.edge_set
        yield f"by choice, calls of A wait as {a} edges say, those of B as {b} edges: the same calls in another order"
    yield from quoted_notes(run for p in pairs for run in (p.a, p.b))


def _drifts(pairs: Sequence[Pair]) -> Iterable[str]:
    """What is not the same besides the knobs."""
    apart = dict.fromkeys(what for p in pairs for what in contrasts(p.a, p.b))
    if apart:
        yield f"from A to B, what they ran on is another thing of the same name: {'; '.join(apart)}"
    if any(p.a.trace_digest != p.b.trace_digest for p in pairs):
        yield "A and B are of two traces of the same name: their arrivals and times need not be alike"
    yield from (f"runs differ: {drift}" for drift in drifts([run for p in pairs for run in (p.a, p.b)]))
    for side in ([p.a for p in pairs], [p.b for p in pairs]):
        yield from warmth_notes(side)


def attribution_notes(found: Sequence[tuple[Summary, Summary]], force: bool = False) -> Iterable[str]:
    """What joules by node rest on, where that is not the same on both sides, or is weaker than the steps' energies."""
    used = [_methods(side) for side in zip(*found, strict=True)]
    if any(not comparable(a.attribution, b.attribution) for a, b in found):
        yield (
            "joules by node and phase are not compared where one side has engine steps and the other has none: those "
            f"of A are {' or '.join(map(basis, used[0]))}; those of B {' or '.join(map(basis, used[1]))}"
        )
    elif used[0] != used[1]:
        sides = [" or ".join(map(basis, methods)) for methods in used if methods]
        if len(sides) == 2:
            yield f"joules by node and phase of A are {sides[0]}; those of B {sides[1]}"
    else:
        for method in used[0]:
            if method != "step energies":
                yield f"joules by node and phase are {basis(method)}"
    lone = [pair for pair in found if bool(agents(pair[0].run)) != bool(agents(pair[1].run))]
    if lone:
        yield f"joules by agent are not compared in {counted(len(lone), 'pair')}: only one side names several agents"
    yield from dict.fromkeys(note for methods in used for method in methods if (note := caution(method)))
    for name, side in zip("AB", zip(*found, strict=True), strict=True):
        reason = withheld([s.attribution for s in side])
        if reason:
            yield f"{name}: {reason}, so joules by node and phase {'are not to be trusted' if force else UNSEEN}"


def workflow_notes(found: Sequence[tuple[Summary, Summary]]) -> Iterable[str]:
    """What figures of workflows and percentiles rest on, said once where it is so of both sides."""
    a, b = ((*figure_notes(side), *call_notes(side)) for side in zip(*found, strict=True))
    known = [sides for sides in found if all(s.figures.slowdown is not None for s in sides)]
    if any(x.run.configuration.max_num_seqs != y.run.configuration.max_num_seqs for x, y in known):
        yield "slowdown and Jain's index are by waiting: what a larger batch slows without a wait is not in them"
    yield from (note for note in a if note in b)
    yield from (f"A: {note}" for note in a if note not in b)
    yield from (f"B: {note}" for note in b if note not in a)


def _methods(side: Iterable[Summary]) -> tuple[Method, ...]:
    return tuple(dict.fromkeys(s.attribution.method for s in side if s.attribution is not None))
