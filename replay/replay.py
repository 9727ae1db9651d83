"""One replay of one trace under one configuration: schedule, engine and meters in, a run out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from rejoule.replay.arrivals import arrival_times
from rejoule.replay.driver import drive
from rejoule.replay.engines.base import Answer, Engine, Measured
from rejoule.replay.expected_cache import Served, cached_bounds
from rejoule.replay.requests import digest
from rejoule.replay.schedule import Schedule
from rejoule.replay.tiers import Tokens
from rejoule.traces import Trace
from rejoule.traces.model import Call, EdgeSet
from rejoule.traces.run import CallResult, Certificate, Configuration, Run, Tier, ToolResult, WorkflowResult
from rejoule.traces.runs import PlannedRun
from rejoule.traces.summary import total

DIGITS = 16
"""Of a digest, kept for each call: enough to tell which one differs."""

OpenEngine = Callable[[Configuration, Trace], Awaitable[Engine]]


async def replay(
    trace: Trace,
    plan: PlannedRun,
    trace_digest: str,
    open_engine: OpenEngine,
    on_answer: Callable[[Answer], None] = lambda _: None,
) -> Run:
    """Replays ``trace`` as ``plan`` says. Raises RejouleError if the engine cannot be had or dies."""
    configuration = plan.configuration
    edge_set: EdgeSet = "trigger" if configuration.edge_set == "trigger" else "barrier"
    schedule = Schedule(
        trace.workflows,
        arrival_times(
            trace.workflows,
            configuration.arrivals,
            time_scale=configuration.time_scale,
            seed=f"{configuration.seed}:{plan.trial}",
        ),
        edge_set=edge_set,
        time_scale=configuration.time_scale,
        concurrency=configuration.concurrency,
    )
    engine = await open_engine(configuration, trace)
    try:
        await engine.start()
        answers, due_s = await drive(schedule, engine, on_answer)
        measured = await engine.finish()
    finally:
        await engine.close()
    return _run(trace, plan, trace_digest, schedule, answers, due_s, measured, engine.tier, edge_set)


def _run(
    trace: Trace,
    plan: PlannedRun,
    trace_digest: str,
    schedule: Schedule,
    answers: Sequence[Answer],
    due_s: dict[str, float],
    measured: Measured,
    tier: Tier,
    edge_set: EdgeSet,
) -> Run:
    calls = {call.id: call for call in trace.calls}
    results = [_result(calls[a.call_id], a, due_s[a.call_id]) for a in answers]
    waited = sorted(schedule.waited, key=lambda w: (w.start_s, w.vertex.id))
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
        workflows=_workflows(trace, schedule, results),
        tools=tools,
        energy=measured.energy,
        power_cap=measured.power_cap,
        certificate=_certificate(trace, answers, schedule, tier, edge_set, measured, plan.configuration),
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


def _workflows(trace: Trace, schedule: Schedule, results: Sequence[CallResult]) -> tuple[WorkflowResult, ...]:
    ends: dict[str, float] = {}
    failed = {r.workflow for r in results if r.error is not None}
    for result in results:
        ends[result.workflow] = max(ends.get(result.workflow, 0.0), result.end_s)
    return tuple(
        WorkflowResult(
            id=w.id,
            graph=w.graph,
            arrival_s=schedule.arrival_s[w.id],
            end_s=ends.get(w.id, schedule.arrival_s[w.id]),
            complete=w.id not in failed,
        )
        for w in trace.workflows
    )


def _certificate(
    trace: Trace,
    answers: Sequence[Answer],
    schedule: Schedule,
    tier: Tier,
    edge_set: EdgeSet,
    measured: Measured,
    configuration: Configuration,
) -> Certificate:
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
    violations += [f"{name} was not sent" for name in sorted(schedule.skipped - answered)]
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
    served = []
    for answer in answers:
        asked = rules.ask(calls[answer.call_id])
        served.append(Served(answer.call_id, answer.sent_s, answer.end_s, asked.prompt, asked.output_ids or ()))
    return cached_bounds(served, block_size)


def _within(value: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= value <= bounds[1]


def _summed(bounds: Iterable[tuple[int, int]]) -> tuple[int, int]:
    low, high = zip(*bounds, strict=True)
    return sum(low), sum(high)
