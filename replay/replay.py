"""One replay of one trace under one configuration: schedule, engine and meters in, a run out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rejoule.replay.engine import Answer, Measured
from rejoule.replay.exactness.expected_cache import Served, cached_bounds
from rejoule.replay.exactness.requests import digest
from rejoule.replay.exactness.tiers import Tokens
from rejoule.replay.passes import Driven, drive_pass, edges_of, joined
from rejoule.replay.protocol.preparation import OpenEngine, Preparation, concluded
from rejoule.replay.protocol.rejection import judged
from rejoule.traces import Trace
from rejoule.traces.loops import looped, pass_of
from rejoule.traces.model import Call
from rejoule.traces.run import CallResult, Certificate, Configuration, Run, Tier, ToolResult, WorkflowResult
from rejoule.traces.runs import PlannedRun
from rejoule.traces.summary import total

DIGITS = 16
"""Of a digest, kept for each call: enough to tell which one differs."""


async def replay(
    trace: Trace,
    plan: PlannedRun,
    trace_digest: str,
    open_engine: OpenEngine,
    on_answer: Callable[[Answer], None] = lambda _: None,
    preparation: Preparation | None = None,
) -> Run:
    """Replays ``trace`` as ``plan`` says. Raises RejouleError if the engine cannot be had or dies.

    ``preparation`` belongs to an experiment: it knows which server is warm already.
    """
    configuration = plan.configuration
    whole = looped(trace, configuration.loops)
    if preparation is None:
        engine, prepared = await open_engine(configuration, trace), None
    else:
        engine, prepared = await preparation.ready(trace, plan, open_engine)
    try:
        await engine.start()
        passes = [
            await drive_pass(trace, configuration, plan.trial, number, engine, on_answer)
            for number in range(1, configuration.loops + 1)
        ]
        measured = await engine.finish()
        if prepared is not None:
            measured = await concluded(engine, configuration, prepared, measured)
    finally:
        await engine.close()
    return judged(_run(whole, plan, trace_digest, joined(passes), measured, engine.tier))


def _run(
    trace: Trace,
    plan: PlannedRun,
    trace_digest: str,
    driven: Driven,
    measured: Measured,
    tier: Tier,
) -> Run:
    calls = {call.id: call for call in trace.calls}
    results = [_result(calls[a.call_id], a, driven.due_s[a.call_id]) for a in driven.answers]
    waited = sorted(driven.waited, key=lambda w: (w.start_s, w.vertex.id))
    tools = tuple(
        ToolResult(w.vertex.id, w.vertex.workflow, w.vertex.node, _name(w.vertex), w.start_s, w.end_s) for w in waited
    )
    return Run(
        id=plan.id,
        trace=plan.trace,
        trace_digest=trace_digest,
        configuration=plan.configuration,
        trial=plan.trial,
        makespan_s=max([*(r.end_s for r in results), *(t.end_s for t in tools)], default=0.0),
        calls=tuple(sorted(results, key=lambda r: r.id)),
        workflows=_workflows(trace, driven, results),
        tools=tools,
        energy=measured.energy,
        power_cap=measured.power_cap,
        certificate=_certificate(trace, driven, tier, measured, plan.configuration),
        steps=measured.steps,
        readings=measured.readings,
        conditions=measured.conditions,
        engine=measured.engine,
    )


def _result(call: Call, answer: Answer, due_s: float) -> CallResult:
    return CallResult(
        id=call.id,
        workflow=call.workflow,
        node=call.node,
        due_s=due_s,
        sent_s=answer.sent_s,
        end_s=answer.end_s,
        first_token_s=answer.first_token_s,
        prompt_tokens=answer.prompt_tokens,
        cached_tokens=answer.cached_tokens,
        output_tokens=answer.output_tokens,
        preemptions=answer.preemptions,
        finish_reason=answer.finish_reason,
        exact=answer.exact,
        error=answer.error,
        prompt_digest=answer.prompt_digest[:DIGITS],
        output_digest=answer.output_digest[:DIGITS],
    )


def _name(vertex: object) -> str:
    return str(getattr(vertex, "name", "failed attempt"))


def _workflows(trace: Trace, driven: Driven, results: Sequence[CallResult]) -> tuple[WorkflowResult, ...]:
    ends: dict[str, float] = {}
    failed = {r.workflow for r in results if r.error is not None}
    for result in results:
        ends[result.workflow] = max(ends.get(result.workflow, 0.0), result.end_s)
    return tuple(
        WorkflowResult(
            id=w.id,
            graph=w.graph,
            arrival_s=driven.arrival_s[w.id],
            end_s=ends.get(w.id, driven.arrival_s[w.id]),
            complete=w.id not in failed,
        )
        for w in trace.workflows
    )


def _certificate(
    trace: Trace,
    driven: Driven,
    tier: Tier,
    measured: Measured,
    configuration: Configuration,
) -> Certificate:
    edge_set, answers = edges_of(configuration), driven.answers
    edges = sorted((e.source, e.target) for w in trace.workflows for e in w.edges if e.kind in (edge_set, "observed"))
    work = sorted((a.call_id, a.prompt_digest, a.output_digest) for a in answers)
    answers = sorted(answers, key=lambda a: a.call_id)
    violations = list(measured.violations)
    violations += [f"{a.call_id} failed: {a.error}" for a in answers if a.error is not None]
    violations += [
        f"{a.call_id} did other work than asked for" for a in answers if a.error is None and a.exact is False
    ]
    bounds = _cached_bounds(trace, answers, measured.block_size, configuration)
    violations += [
        f"{a.call_id} found {a.cached_tokens} tokens in the prefix cache, expected {bounds[a.call_id]}"
        for a in answers
        if a.call_id in bounds and a.cached_tokens is not None and not _within(a.cached_tokens, bounds[a.call_id])
    ]
    answered = {a.call_id for a in answers}
    violations += [f"{name} was not sent" for name in sorted(driven.skipped - answered)]
    return Certificate(
        tier=tier,
        digest=digest([tier, work]),
        order=digest(edges),
        exact_calls=sum(a.exact is True for a in answers),
        violations=tuple(violations),
        cached_tokens=total(a.cached_tokens for a in answers),
        expected_cached_tokens=_summed(bounds.values()) if bounds else None,
    )


def _cached_bounds(
    trace: Trace, answers: Sequence[Answer], block_size: int | None, configuration: Configuration
) -> dict[str, tuple[int, int]]:
    if block_size is None:
        return {}
    calls = {call.id: call for call in trace.calls}
    rules = Tokens(configuration, "", "logits-processor")
    served: dict[int, list[Served]] = {}
    for answer in answers:
        asked = rules.ask(calls[answer.call_id])
        one = Served(
            answer.call_id, answer.sent_s, answer.end_s, asked.prompt, asked.output_ids or (), answer.first_token_s
        )
        served.setdefault(pass_of(answer.call_id), []).append(one)
    return {name: found for one_pass in served.values() for name, found in cached_bounds(one_pass, block_size).items()}


def _within(value: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _summed(bounds: Iterable[tuple[int, int]]) -> tuple[int, int]:
    low, high = zip(*bounds, strict=True)
    return sum(low), sum(high)
