"""How much of the KV cache the workflows under way would fill, if all of it stayed."""

from __future__ import annotations

from rejoule.traces.overview import BLOCK
from rejoule.traces.run import CallResult, Run


def kv_pressure(run: Run) -> float | None:
    """The most that workflows under way hold, by what the cache holds; ``None`` where its size is not known.

    A workflow holds the context of its latest call, from its first call's sending to its last call's end: what its next
    call finds again if nothing was evicted. What its first call found in the cache it shares with others: that counts
    once. Branches beside each other hold more than that. An engine that does not say how large its blocks are is taken
    to have vLLM's.
    """
    blocks, size = run.engine.get("num_gpu_blocks"), run.engine.get("block_size", BLOCK)
    if not isinstance(blocks, int) or not isinstance(size, int) or blocks * size <= 0:
        return None
    by_workflow: dict[str, list[CallResult]] = {}
    for call in run.calls:
        if call.error is None:
            by_workflow.setdefault(call.workflow, []).append(call)
    changes: list[tuple[float, int]] = []
    shared = 0
    for calls in by_workflow.values():
        calls.sort(key=lambda c: (c.sent_s, c.id))
        own = calls[0].cached_tokens or 0
        shared = max(shared, own)
        held = 0
        for call in calls:
            grown = max(held, (call.prompt_tokens or 0) + (call.output_tokens or 0) - own)
            changes.append((call.sent_s, grown - held))
            held = grown
        changes.append((max(c.end_s for c in calls), -held))
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return (most + shared) / (blocks * size)
