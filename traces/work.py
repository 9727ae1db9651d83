"""What of a trace a replay does again, what it does otherwise, and what it leaves out: the one place that says so.

Every call that was recorded is either replayed or left out for a reason with a name, so that for calls and for tokens
what was recorded is what is replayed and what is named, together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from rejoule.traces.model import Call, Trace
from rejoule.traces.words import counted

WORDS_TO_TOKENS: Final = 4 / 3
"""Of English text: three words are about four tokens."""
NEVER_SENT: Final = "not sent, as a call before it failed"
REFUSED: Final = "refused by the server of the replay"
FAILED: Final = "failed in the replay"


class Outcome(Protocol):
    """What became of a call that was sent."""

    @property
    def error(self) -> str | None: ...
    @property
    def refused(self) -> bool: ...
    @property
    def altered(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Amount:
    """Calls and their tokens, as far as anybody counted them."""

    calls: int
    prompt_tokens: int
    output_tokens: int
    uncounted: int
    """Calls of which the server did not count the tokens of prompt or answer."""


NONE: Final = Amount(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Named:
    """Calls that something is to be said of."""

    reason: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Account:
    """A trace's work: ``recorded`` is ``replayed`` and all of ``left_out`` together."""

    recorded: Amount
    replayed: Amount
    left_out: tuple[Named, ...] = ()
    altered: tuple[Named, ...] = ()
    """Replayed, but not just as recorded, so that no certificate calls them exact; a call may be in several."""
    unrecorded: Mapping[str, int] = field(default_factory=dict)
    """Requests that the recording saw and that are no calls: how many, by why."""
    further: Amount = NONE
    """Of ``recorded``, further answers to a prompt: each has that prompt's tokens again, which a cache shares."""


def left_out(call: Call) -> str | None:
    """Why a replay does not do a call again; ``None`` if it does."""
    if call.request.get("use_beam_search"):
        return "beam search, which no server can be made to repeat"
    if _number(call, "best_of") > _number(call, "n"):
        return "best_of, whose discarded answers nobody told"
    if _number(call, "n") > 1:
        return "several answers to one request, not recorded one by one"
    if call.status is None:
        return "no answer came"
    if call.status != 200:
        return "refused by the server"
    if not call.succeeded and not output_tokens(call):
        return "ended before its first token"
    return None


def altered(call: Call) -> tuple[str, ...]:
    """In what a replay of a call is not just what was recorded."""
    found = []
    if not call.succeeded:
        found.append("let go before its end, and done as far as its answer had come")
    if counted_tokens(call) is None:
        found.append("of a guessed length, as the server did not count it by itself")
    elif not output_tokens(call):
        found.append("with a token of output, where there was none")
    return tuple(found)


def counted_tokens(call: Call) -> int | None:
    """Tokens of an answer as the server counted them, or as their ids show."""
    if call.output_tokens is not None or call.token_ids is None:
        return call.output_tokens
    return len(call.token_ids)


def output_tokens(call: Call) -> int:
    """Tokens of an answer: counted, or guessed by the pieces that it came in, or by its words."""
    found = counted_tokens(call)
    if found is None:
        found = call.pieces
    return round(len(_said(call).split()) * WORDS_TO_TOKENS) if found is None else found


def account(trace: Trace, outcomes: Mapping[str, Outcome] | None = None) -> Account:
    """What becomes of a trace's work; ``outcomes``, where it has been tried, has the calls that were sent."""
    done, lost, changed = [], defaultdict(list), defaultdict(list)
    for call in trace.calls:
        outcome = None if outcomes is None else outcomes.get(call.id)
        why = left_out(call)
        if outcomes is not None:
            why = (why or NEVER_SENT) if outcome is None else _undone(outcome)
        if why is not None:
            lost[why].append(call)
            continue
        done.append(call)
        for reason in altered(call) if outcome is None else outcome.altered:
            changed[reason].append(call)
    unrecorded: dict[str, int] = defaultdict(int)
    for other in trace.unrecorded:
        unrecorded[other.what] += other.requests
    further = amount(_further(trace.calls))
    return Account(amount(trace.calls), amount(done), _named(lost), _named(changed), dict(unrecorded), further)


def amount(calls: Iterable[Call]) -> Amount:
    """What was counted of calls."""
    number = prompts = outputs = uncounted = 0
    for call in calls:
        output = counted_tokens(call)
        number += 1
        prompts += call.prompt_tokens or 0
        outputs += output or 0
        uncounted += call.prompt_tokens is None or output is None
    return Amount(number, prompts, outputs, uncounted)


def sentences(found: Account) -> Iterator[str]:
    """What a reader must know of it, the most serious first, with counts and shares."""
    for named in found.left_out:
        yield f"{_share(named.amount, found.recorded)} left out: {named.reason}"
    for named in found.altered:
        yield f"{_share(named.amount, found.recorded)} not counted as exact: {named.reason}"
    if found.further.calls:
        again = f"whose tokens ({found.further.prompt_tokens:,} here) are counted for each"
        yield f"{_share(found.further, found.recorded)} for further answers to a prompt, {again}"
    for what, requests in found.unrecorded.items():
        yield f"{counted(requests, 'request')} not in the trace: {what}"


def _further(calls: Iterable[Call]) -> Iterator[Call]:
    """Of several answers to a prompt, all but the first."""
    answered = set()
    for call in calls:
        prompt = call.sibling_of or call.id, repr(call.request.get("prompt"))
        if prompt in answered:
            yield call
        answered.add(prompt)


def _undone(outcome: Outcome) -> str | None:
    if outcome.error is None:
        return None
    return REFUSED if outcome.refused else FAILED


def _share(part: Amount, whole: Amount) -> str:
    text = f"{counted(part.calls, 'call')} of {whole.calls:,} ({part.calls / whole.calls:.1%}"
    if part.output_tokens and whole.output_tokens:
        text += f", {part.output_tokens / whole.output_tokens:.1%} of the output"
    return f"{text})"


def _named(found: Mapping[str, list[Call]]) -> tuple[Named, ...]:
    return tuple(Named(reason, amount(calls)) for reason, calls in found.items())


def _number(call: Call, name: str) -> int:
    value = call.request.get(name)
    return value if isinstance(value, int) else 1


def _said(call: Call) -> str:
    """Text and the arguments of tools: what the model wrote."""
    functions = [tool.get("function") for tool in call.tool_calls]
    arguments = [str(function.get("arguments") or "") for function in functions if isinstance(function, Mapping)]
    return " ".join([call.text or "", *arguments])
