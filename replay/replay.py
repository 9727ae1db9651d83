"""One replay of one trace under one configuration: schedule, engine and meters in, a run out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

from rejoule.replay.engine import Measured
from rejoule.replay.exactness.cache_verdict import CacheVerdict, cache_verdict
from rejoule.replay.exactness.expected_cache import Served
from rejoule.replay.exactness.left_behind import beyond, text_of
from rejoule.replay.exactness.models import Models
from rejoule.replay.exactness.requests import digest
from rejoule.replay.exactness.tiers import SALT, Asked, Lengths, Tokens
from rejoule.replay.passes import Driven, drive_pass, edges_of, joined, known_of
from rejoule.replay.policy.acting import where
from rejoule.replay.policy.gate import Chosen
from rejoule.replay.policy.registry import code_digest
from rejoule.replay.protocol.preparation import OpenEngine, Preparation, concluded
from rejoule.replay.protocol.rejection import judged
from rejoule.traces import Trace
from rejoule.traces.loops import looped, pass_of
from rejoule.traces.model import Edge
from rejoule.traces.preempted import preemptions_of
from rejoule.traces.run import CallResult, Certificate, Configuration, Run, Tier, ToolResult, WorkflowResult
from rejoule.traces.runs import PlannedRun
from rejoule.traces.summary import total
from rejoule.traces.warmth import WARM
from rejoule.traces.words import counted
from rejoule.traces.work import account

DIGITS = 16
"""Of a digest, kept for each call: enough to tell which one differs."""


async def replay(
    trace: Trace,
    plan: PlannedRun,
    trace_digest: str,
    open_engine: OpenEngine,
    on_answer: Callable[[CallResult], None] = lambda _: None,
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
        known = known_of(trace, configuration)
        await engine.start()
        passes = [
            await drive_pass(trace, configuration, plan.trial, number, engine, on_answer, known)
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
    results = driven.results
    failed = {result.id for result in results if result.error is not None}
    preemptions = None if measured.steps is None else preemptions_of(measured.steps, failed)
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
        calls=tuple(_told(r, preemptions) for r in sorted(results, key=lambda r: r.id)),
        workflows=_workflows(trace, driven, results),
        tools=tools,
        energy=measured.energy,
        power_cap=measured.power_cap,
        certificate=_certificate(trace, driven, tier, measured, plan.configuration),
        steps=measured.steps,
        readings=measured.readings,
        conditions=measured.conditions,
        engine={**measured.engine, "rejoule": version("rejoule"), **_policy(plan.configuration, driven.chosen)},
    )


def _policy(configuration: Configuration, chosen: Chosen | None) -> dict[str, Any]:
    """What a run says of its policy: where it acted, what it went by, and what it held."""
    if configuration.policy is None or chosen is None:
        return {}
    said = {
        "policy": {"acts": where(configuration), **asdict(chosen)},
        "policy_code": code_digest(configuration.policy),
    }
    return {name: value for name, value in said.items() if value is not None}


def _told(result: CallResult, preemptions: Counter[str] | None) -> CallResult:
    """With how often it was preempted, where the engine's steps say so, and shorter digests."""
    digests = {name: getattr(result, name)[:DIGITS] for name in ("prompt_digest", "output_digest")}
    return replace(result, **digests, preemptions=result.preemptions if preemptions is None else preemptions[result.id])


def _name(vertex: object) -> str:
    return str(getattr(vertex, "name", "a call left out"))


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
            success=w.success,
        )
        for w in trace.workflows
    )


def _link(edge: Edge) -> tuple[str | int, ...]:
    """What of an edge makes the order of a replay."""
    part = (edge.tokens or 0,) if edge.kind == "streamed" else ()
    return (edge.source, edge.target, *part)


def _certificate(
    trace: Trace,
    driven: Driven,
    tier: Tier,
    measured: Measured,
    configuration: Configuration,
) -> Certificate:
    edge_set = edges_of(configuration)
    results = sorted(driven.results, key=lambda r: r.id)
    edges = sorted(_link(e) for w in trace.workflows for e in w.edges if e.kind in (edge_set, "observed", "streamed"))
    done = sorted((r.id, r.prompt_digest, r.output_digest) for r in results)
    violations = list(measured.violations)
    violations += [f"{r.id} failed: {r.error}" for r in results if r.error is not None]
    violations += [f"{r.id} did other work than asked for" for r in results if r.error is None and r.exact is False]
    cache = _cache_verdict(trace, results, measured, configuration)
    violations += cache.violations
    if tier == "lengths":
        violations += _warmth(trace, results, configuration)
    answered = {r.id: r for r in results}
    violations += [f"{name} was not sent" for name in sorted(driven.skipped - answered.keys())]
    return Certificate(
        tier=tier,
        digest=digest([tier, done]),
        order=digest(edges),
        exact_calls=sum(r.exact is True for r in results),
        violations=tuple(violations),
        cached_tokens=total(r.cached_tokens for r in results),
        expected_cached_tokens=cache.expected_tokens,
        evicted_calls=cache.evicted_calls,
        work=account(trace, answered),
        salted=configuration.options.get(SALT) == "prompt",
    )


def _warmth(trace: Trace, results: Sequence[CallResult], configuration: Configuration) -> list[str]:
    calls = {call.id: call for call in trace.calls}
    rules = Lengths(configuration, Models(("",)), exact_lengths=False)
    texts = {r.id: text_of(rules.ask(calls[r.id]).prompt, pass_of(r.id)) for r in results}
    if not (found := beyond(results, texts)):
        return []
    first, others = found[0], len(found) - 1
    more = f", and so did {counted(others, 'other call')}" if others else ""
    return [
        f"{WARM}: {first.id} found {first.cached_tokens} tokens there, where this run can have left {first.most} at "
        f"most{more}"
    ]


def _cache_verdict(
    trace: Trace, results: Sequence[CallResult], measured: Measured, configuration: Configuration
) -> CacheVerdict:
    if measured.caches is None:
        return CacheVerdict()
    # What was refused was never computed, nor looked up.
    results = [result for result in results if not result.refused]
    calls = {call.id: call for call in trace.calls}
    rules = Tokens(configuration, Models(("",)), "logits-processor")
    asked = {result.id: rules.ask(calls[result.id]) for result in results}
    served = [_served(r, asked[r.id]) for r in results]
    return cache_verdict(results, served, measured.caches)


def _served(result: CallResult, asked: Asked) -> Served:
    """A call as the server saw it. The answer of one that failed is as long as is told; before its first token there is
    none, and where it broke off nobody knows more than how long it was to be."""
    output = asked.output_ids or ()
    if result.error is not None and result.output_tokens is not None:
        output = output[: result.output_tokens]
    elif result.error is not None and result.first_token_s is None:
        output = ()
    done = result.error is None
    return Served(result.id, result.sent_s, result.end_s, asked.prompt, output, result.first_token_s, done)
