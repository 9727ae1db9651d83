"""What a reader must know of the policy that scheduled a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rejoule.traces.run import Run
from rejoule.traces.words import counted

BLIND: Final = frozenset({"fcfs", "workflow-fcfs", "las", "turn-priority", "admission"})
"""ReJoule's policies that look at no outlook: what they may know makes no difference."""
GATE_ONLY: Final = "the client's gate only"
"""How a run says that the engine's own queue did not go by the policy's priorities."""
_GUESSES: Final = {
    "graph": "of a node that no other workflow came to: it was told the means of their graph",
    "trace": "of a graph that no other workflow is of: it was told the means of the trace",
    "nothing": "of a trace of one workflow, of which it could learn nothing: they looked alike to it",
}


def policy_notes(runs: Sequence[Run]) -> Iterator[str]:
    """Where a policy acted if not everywhere, and what it was told that nobody knew; each once."""
    yield from dict.fromkeys(note for run in runs for note in _notes(run))


def _notes(run: Run) -> Iterator[str]:
    said = run.engine.get("policy")
    if run.configuration.policy is None or not isinstance(said, Mapping):
        return
    name = f"the policy {run.configuration.policy}"
    if str(said.get("acts", "")).startswith(GATE_ONLY):
        yield f"{name} acted at {said['acts']}"
    calls: Mapping[str, Any] = said.get("outlooks") or {}
    if run.configuration.policy in BLIND:
        return
    for basis, why in _GUESSES.items():
        if count := calls.get(basis, 0):
            yield f"{name} had {counted(count, 'call')} of {sum(calls.values()):,} {why}"
