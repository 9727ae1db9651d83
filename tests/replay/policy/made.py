"""Gates and schedules of made-up traces, for tests of policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rejoule.replay.places import Places
from rejoule.replay.policy.gate import Gate
from rejoule.replay.policy.interface import UNKNOWN, Capacity, Knows, Policy
from rejoule.replay.policy.knowledge import knowledge
from rejoule.replay.policy.registry import open_policy
from rejoule.replay.schedule import Schedule
from rejoule.traces.model import EdgeSet, Workflow
from rejoule.traces.testing import made_call, made_workflow


def gated(
    workflows: Sequence[Workflow],
    policy: Policy | str,
    knows: Knows = "oracle",
    *,
    arrivals_s: Sequence[float] | None = None,
    edge_set: EdgeSet = "barrier",
    concurrency: int | None = 1,
    places: Places | None = None,
    options: Mapping[str, Any] = {},
    capacity: Capacity = UNKNOWN,
) -> Schedule:
    """A schedule with a policy at its gate; all workflows arrive at once unless told."""
    arrivals_s = [0.0] * len(workflows) if arrivals_s is None else arrivals_s
    gate = Gate(
        open_policy(policy, options) if isinstance(policy, str) else policy,
        policy if isinstance(policy, str) else "mine",
        knowledge(workflows, knows, edge_set, time_scale=1.0, output_scale=1.0),
        workflows,
        {w.id: at_s for w, at_s in zip(workflows, arrivals_s, strict=True)},
        capacity=capacity,
    )
    places = Places(concurrency) if places is None else places
    return Schedule(workflows, arrivals_s, edge_set=edge_set, places=places, gate=gate)


def chain(name: str, *lengths: int) -> Workflow:
    """A workflow of calls one after another, with answers of so many tokens, a millisecond each."""
    calls, at_ms = [], 0.0
    for i, tokens in enumerate(lengths):
        calls.append(made_call(name, f"n{i}", at_ms, at_ms + tokens, output_tokens=tokens))
        at_ms += tokens
    names = [f"n{i}" for i in range(len(lengths))]
    return made_workflow(calls, {"barrier": list(pairwise(names))}, name=name)


def play(schedule: Schedule, tokens_s: float = 0.001) -> tuple[list[str], dict[str, float]]:
    """Answers every call in a time by its length: the order in which calls were sent, and when each ended."""
    now_s, flights, sent, ends = 0.0, list[tuple[float, str]](), list[str](), dict[str, float]()
    while not schedule.done:
        for due in schedule.due(now_s):
            sent.append(due.call.id)
            flights.append((now_s + (due.call.output_tokens or 0) * tokens_s, due.call.id))
        if schedule.done:
            break
        times = [t for t in (schedule.next_due_s, min(flights)[0] if flights else None) if t is not None]
        now_s = min(times)
        for at_s, name in sorted(f for f in flights if f[0] <= now_s):
            flights.remove((at_s, name))
            ends[name] = at_s
            schedule.finished(name, at_s)
    return sent, ends
