"""Calls that an engine threw out for want of KV blocks, and what it computed again because of that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rejoule.traces.contexts import contexts
from rejoule.traces.run import Run, Step
from rejoule.traces.words import counted, in_percent


@dataclass(frozen=True, slots=True)
class Preempted:
    """Of a run; what only the engine's steps tell is ``None`` without them."""

    preemptions: int
    calls: int
    """Those that were preempted at all."""
    of_calls: int
    again_tokens: float | None
    """Of prompts and of answers so far, computed a second time: not what the prefix cache still had."""
    prefill_tokens: float | None
    """All that were computed before a call decoded, or decoded on."""

    @property
    def again_share(self) -> float | None:
        """Of the tokens that were prefilled."""
        if self.again_tokens is None or not self.prefill_tokens:
            return None
        return self.again_tokens / self.prefill_tokens


def preempted(run: Run) -> Preempted | None:
    """``None`` where nobody tells: a server that is not watched from inside."""
    if run.steps is not None:
        by_call = preemptions_of(run.steps, {call.id for call in run.failed_calls})
        twice = tokens_again(run.steps, {call.id: call.prompt_tokens for call in run.calls})
        again: float | None = float(sum(tokens for step in twice for tokens in step))
        prefilled: float | None = float(sum(tokens for step in run.steps for _, tokens, _ in step.prefill))
    elif run.calls and all(call.preemptions is not None for call in run.calls):
        by_call = Counter({call.id: call.preemptions or 0 for call in run.calls})
        again = prefilled = None
    else:
        return None
    named = [by_call[call.id] for call in run.calls]
    return Preempted(sum(named), sum(map(bool, named)), len(named), again, prefilled)


def preemptions_of(steps: Sequence[Step], failed: Container[str] = ()) -> Counter[str]:
    """How often each call was preempted, and went on or was one of those that ``failed``; 0 for any that is not in it.

    Any other that never went on had its whole answer: an engine that plans ahead may put it out before it sees that.
    """
    if not any(step.preempted for step in steps):
        return Counter()
    last = {call: i for i, step in enumerate(steps) for call, *_ in (*step.prefill, *step.decode)}
    return Counter(
        call for i, step in enumerate(steps) for call in step.preempted if call in failed or last.get(call, -1) >= i
    )


def tokens_again(steps: Sequence[Step], prompt_tokens: Mapping[str, int | None]) -> Iterator[tuple[float, ...]]:
    """For each step, how many of the tokens of each entry of ``prefill`` the call had in the KV cache before.

    Those lie below the most that it ever had there.
    """
    if not any(step.preempted for step in steps):
        yield from ((0.0,) * len(step.prefill) for step in steps)
        return
    gone: set[str] = set()
    had: dict[str, float] = {}
    at: dict[str, float] = {}
    for step, (before, _) in zip(steps, contexts(steps, prompt_tokens), strict=True):
        for call in step.preempted:
            had[call] = max(had.get(call, 0.0), at.pop(call, 0.0))
            gone.add(call)
        found = []
        for (call, tokens, _), start in zip(step.prefill, before, strict=True):
            found.append(min(float(tokens), max(0.0, had[call] - start)) if call in gone else 0.0)
            at[call] = start + tokens
        for call, emitted in step.decode:
            at[call] = at.get(call, float(prompt_tokens.get(call) or 0)) + emitted
        yield tuple(found)


ADVICE: Final = ", and rejoule advise on runs with several sizes says what it is worth"


def preemption_notes(trials: Sequence[Run], least_share: float = 0.0, advice: str = ADVICE) -> Iterator[str]:
    """What a reader of the trials of one configuration must know of its KV cache, if calls were preempted.

    Nothing is said below ``least_share`` of them.
    """
    told = [one for one in map(preempted, trials) if one is not None]
    found = [one for one in told if one.preemptions]
    if not found or preempted_share(trials) < least_share:
        return
    times, calls, of = (sum(getattr(one, name) for one in told) for name in ("preemptions", "calls", "of_calls"))
    again = [(one.again_tokens, one.prefill_tokens) for one in told if one.again_tokens is not None]
    computed = ""
    if len(again) == len(told):
        tokens, whole = (sum(column) for column in zip(*again, strict=True))
        computed = f", and {counted(round(tokens), 'token')} computed again"
        computed += f" ({in_percent(tokens / whole)} of all prefill)" if whole else ""
    yield (
        f"the KV cache was full: {calls:,} of {counted(of, 'call')} preempted {counted(times, 'time')}{computed}; more "
        "KV blocks (num_gpu_blocks, gpu_memory_utilization) or a smaller max_num_seqs end "
        f"that{advice}"
    )


def fullest_note(configurations: Sequence[tuple[str, Sequence[Run]]], least_share: float = 0.0) -> Iterator[str]:
    """The same of many configurations, each by a name with its trials: of the one with the most calls preempted, and in
    how many others some were."""
    full = [(name, trials) for name, trials in configurations if any(preemption_notes(trials, least_share))]
    if full:
        name, trials = max(full, key=lambda each: preempted_share(each[1]))
        others = counted(len(full) - 1, "other configuration")
        more = f"; it was full, too, in {others} of {len(configurations):,}" if len(full) > 1 else ""
        yield from (f"{name}: {note}{more}" for note in preemption_notes(trials))


def preempted_share(trials: Iterable[Run]) -> float:
    """Of all calls of which it is known."""
    found = [one for one in map(preempted, trials) if one is not None]
    return sum(one.calls for one in found) / (sum(one.of_calls for one in found) or 1)


def as_json(run: Run) -> dict[str, Any] | None:
    """``None`` where nobody tells."""
    found = preempted(run)
    return None if found is None else asdict(found) | {"again_share": found.again_share}
