"""One request that asked for several answers, or with several prompts, as a call for each: pure.

A server computes them as so many requests, which a replay sends; what they share it finds in its prefix cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, Final

from rejoule.graphs.capture.answer import Answer
from rejoule.traces.model import Call

ASKING: Final = ("n", "best_of")


def calls(call: Call, answers: Sequence[Answer]) -> Iterator[Call]:
    """The call of each answer. ``call`` is the request with its first answer, and the tokens of all of them.

    One that no such calls can be made of, as beam search, is left as it is.
    """
    prompts = _prompts(call.request)
    if len(answers) == 1 or call.request.get("use_beam_search") or _more_than_told(call.request):
        yield call
        return
    if len(answers) > (asked := len(prompts) * _number(call.request, "n")):
        yield replace(
            call, error=call.error or f"the server sent {len(answers):,} answers, and {asked:,} were asked for"
        )
        return
    each = max(1, len(answers) // len(prompts))
    shares = _shares(call.output_tokens, answers)
    for number, answer in enumerate(answers):
        mine = min(number // each, len(prompts) - 1)
        alike = answers[mine * each : (mine + 1) * each]
        ids = next((a.prompt_token_ids for a in alike if a.prompt_token_ids is not None), None)
        request = {name: value for name, value in call.request.items() if name not in ASKING}
        if "prompt" in request:
            request["prompt"] = prompts[mine]
        counted = None if answer.token_ids is None else len(answer.token_ids)
        yield replace(
            call,
            id=call.id if number == 0 else f"{call.id}.{number}",
            sibling_of=None if number == 0 else call.id,
            request=request,
            text=answer.text,
            tool_calls=answer.tool_calls,
            finish_reason=answer.finish_reason,
            prompt_token_ids=ids,
            token_ids=answer.token_ids,
            prompt_tokens=len(ids) if ids is not None else call.prompt_tokens if len(prompts) == 1 else None,
            cached_tokens=call.cached_tokens if number == 0 and len(prompts) == 1 else None,
            output_tokens=counted,
            pieces=shares[number] if counted is None else None,
            first_token_ns=answer.first_token_at,
            chunk_ns=tuple(at - call.submit_ns for at in answer.chunks_at),
        )


def _prompts(request: Mapping[str, Any]) -> Sequence[Any]:
    """The prompts of a request: one, but for a list of texts or of lists of token ids."""
    prompt = request.get("prompt")
    if isinstance(prompt, list) and prompt and all(isinstance(one, str | list) for one in prompt):
        return prompt
    return [prompt]


def _more_than_told(request: Mapping[str, Any]) -> bool:
    told, best = (_number(request, name) for name in ASKING)
    return best > told


def _number(request: Mapping[str, Any], name: str) -> int:
    value = request.get(name)
    return value if isinstance(value, int) and value > 0 else 1


def _shares(total: int | None, answers: Sequence[Answer]) -> Sequence[int | None]:
    """How many tokens each answer has, as a guess that adds up to what the server counted of all."""
    if total is None:
        return [answer.pieces for answer in answers]
    weights = [len(answer.text or "") + 1 for answer in answers]
    edges = [round(total * part / sum(weights)) for part in accumulate(weights, initial=0)]
    return [b - a for a, b in pairwise(edges)]
