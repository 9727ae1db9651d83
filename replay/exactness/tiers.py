"""How exact a replay on a server is: what is asked of it for a call, and whether the answer is what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any, Final, Protocol

from rejoule.replay.exactness.models import Models
from rejoule.replay.exactness.requests import (
    UNSTREAMED,
    digest,
    exact_body,
    prompt_of,
    scaled_ids,
    scaled_length,
    whole_body,
    with_text_in_front,
)
from rejoule.replay.vllm.plugin.forcing import Forcing, forced_request
from rejoule.traces import RejouleError, Trace
from rejoule.traces.loops import pass_of
from rejoule.traces.model import Call
from rejoule.traces.run import Configuration, Tier
from rejoule.traces.words import counted
from rejoule.traces.work import left_out, output_tokens

SALT: Final = "salt"
"""The option whose value ``prompt`` puts a short text of the run's own in front of each prompt, where a server has no
other way to a cold prefix cache."""
PATHS: Final = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
GENERATE: Final = "/inference/v1/generate"
SAMPLING: Final = (
    "temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "priority",
)  # fmt: skip
"""What of a recorded chat request still makes the server work when its prompt is sent as token ids."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that does a recorded call's work again."""

    path: str
    body: Mapping[str, Any]
    prompt: Sequence[Any]
    """What makes the prompt, for its digest."""
    prompt_tokens: int | None
    """How long the prompt must be; ``None`` if nobody counted."""
    output_tokens: int
    output_ids: tuple[int, ...] | None = None
    """The ids that must come back; ``None`` if only their number matters."""
    altered: tuple[str, ...] = ()
    """In what it is not just the recorded call."""

    @property
    def streamed(self) -> bool:
        return bool(self.body["stream"])

    def whole(self) -> Asked:
        """The same, for an answer in one piece."""
        return replace(self, body=whole_body(self.body))

    def ranked(self, priority: int) -> Asked:
        """The same, for a queue that goes by priority; lower is served sooner."""
        return replace(self, body={**self.body, "priority": priority})


class Answered(Protocol):
    """What a server said, as far as exactness is concerned."""

    @property
    def prompt_tokens(self) -> int | None: ...
    @property
    def output_tokens(self) -> int | None: ...
    @property
    def prompt_token_ids(self) -> Sequence[int] | None: ...
    @property
    def token_ids(self) -> Sequence[int] | None: ...


class Rules(Protocol):
    """A tier's rules."""

    @property
    def tier(self) -> Tier: ...

    def ask(self, call: Call) -> Asked:
        """What to send for a call."""
        ...

    def heard(self, call: Call, answered: Answered) -> None:
        """Takes note of a good answer."""
        ...


@dataclass(frozen=True, slots=True)
class Lengths:
    """Prompts as recorded, and answers of the recorded length."""

    configuration: Configuration
    models: Models
    exact_lengths: bool
    """Whether the server understands vLLM's options for an exact length; otherwise answers may be shorter."""
    cache_salt: str | None = None
    """Keeps the prefix cache of one run apart from all others, where the server cannot be told to empty it."""
    prompt_salt: str | None = None
    """The same in front of every prompt, for servers that take no ``cache_salt``: prompts are longer by it."""
    tier: Tier = "lengths"

    def ask(self, call: Call) -> Asked:
        scale = self.configuration.input_scale
        wanted = scaled_length(output_tokens(call), self.configuration.output_scale)
        body = exact_body(call, output_tokens=wanted, input_scale=scale, exact_lengths=self.exact_lengths)
        body["model"] = self.models.answering(call)
        if self.exact_lengths:
            body |= salted(call, self.cache_salt)
        if self.prompt_salt is not None:
            prompt = prompt_of(with_text_in_front(body, "0" * len(self.prompt_salt)))
            number = (int(self.prompt_salt) + pass_of(call.id) - 1) % 10 ** len(self.prompt_salt)
            body = with_text_in_front(body, f"{number:0{len(self.prompt_salt)}}")
            # How many tokens it adds is the tokenizer's to say; its digits are as many in every run.
            return Asked(PATHS[call.endpoint], body, prompt, None, wanted, altered=self.models.altered(call))
        prompt_tokens = call.prompt_tokens if scale == 1 else None
        changed = self.models.altered(call)
        return Asked(PATHS[call.endpoint], body, prompt_of(body), prompt_tokens, wanted, altered=changed)

    def heard(self, call: Call, answered: Answered) -> None:
        """A later prompt is sent as recorded, whatever was answered."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The recorded token ids, of prompt and answer: the server is made to emit them."""

    configuration: Configuration
    models: Models
    forcing: Forcing
    tier: Tier = "tokens"

    def ask(self, call: Call) -> Asked:
        assert call.prompt_token_ids is not None and call.token_ids
        prompt = scaled_ids(call.prompt_token_ids, self.configuration.input_scale)
        length = scaled_length(len(call.token_ids), self.configuration.output_scale)
        output = tuple(islice(cycle(call.token_ids), length))
        sampling = {k: v for k in SAMPLING if (v := call.request.get(k)) is not None}
        salt, changed = salted(call), altered_ids(call, self.models)
        if self.forcing == "trace-replay":
            priority = {k: sampling.pop(k) for k in ("priority",) if k in sampling}
            body = {
                "model": self.models.answering(call),
                "token_ids": prompt,
                "sampling_params": sampling,
                "stream": True,
                **priority,
                **salt,
            }
            forced = forced_request(body, output, self.forcing)
            return Asked(GENERATE, forced, prompt, len(prompt), length, output, changed)
        body = {"model": self.models.answering(call), "prompt": prompt, "return_token_ids": True, **sampling, **salt}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        forced = forced_request(body, output, self.forcing)
        return Asked(PATHS["completions"], forced, prompt, len(prompt), length, output, changed)

    def heard(self, call: Call, answered: Answered) -> None:
        """The answer is the recorded one, so later prompts quote it already."""


def salted(call: Call, salt: str | None = None) -> dict[str, str]:
    """What of a request's body keeps its blocks of the prefix cache apart from those of other runs and passes.

    ``salt`` is the run's own. The first pass of a run without one asks for nothing.
    """
    if (number := pass_of(call.id)) > 1:
        salt = f"{salt or 'pass'}~{number}"
    return {} if salt is None else {"cache_salt": salt}


def altered_ids(call: Call, models: Models) -> tuple[str, ...]:
    """In what a call is not just the recorded one where its prompt is sent as token ids."""
    unsent = (f"without its {name}" for name in UNSTREAMED if call.request.get(name) is not None)
    return (*models.altered(call), *unsent)


def check_tokens(trace: Trace, name: str) -> None:
    """Raises RejouleError if a trace lacks the token ids that the tiers ``tokens`` and ``spliced`` send."""
    missing = [c.id for c in trace.calls if left_out(c) is None and not (c.prompt_token_ids and c.token_ids)]
    if missing:
        raise RejouleError(
            f"{name} has no token ids for {counted(len(missing), 'call')}, first {missing[0]}",
            "record it from vLLM, which returns them, or replay in tier lengths: --option tier=lengths",
        )


def check_texts(trace: Trace) -> None:
    """Raises RejouleError for prompts that no text can be put in front of, as ``salt=prompt`` does."""
    ids = [
        call.id
        for call in trace.calls
        if left_out(call) is None
        and not call.request.get("messages")
        and not isinstance(call.request.get("prompt"), str)
    ]
    if ids:
        raise RejouleError(
            f"salt=prompt needs prompts that are text, and that of {ids[0]} is token ids",
            "replay on a server that takes a cache_salt, as vLLM does",
        )


def exact(asked: Asked, answered: Answered) -> bool | None:
    """Whether the answer is the recorded one; ``None`` if the server did not say enough, or more or less was asked."""
    found = _as_asked(asked, answered)
    return None if found and asked.altered else found


def _as_asked(asked: Asked, answered: Answered) -> bool | None:
    same_prompt = asked.prompt_tokens is None or answered.prompt_tokens in (None, asked.prompt_tokens)
    if asked.output_ids is not None:
        if answered.token_ids is None:
            return None
        if answered.prompt_token_ids is not None:
            same_prompt = list(answered.prompt_token_ids) == list(asked.prompt)
        return same_prompt and tuple(answered.token_ids) == asked.output_ids
    if answered.output_tokens is None:
        return None
    return same_prompt and answered.output_tokens == asked.output_tokens


def output_digest(asked: Asked, answered: Answered) -> str:
    """Of the answer, as far as the tier promises that it is equal."""
    if asked.output_ids is not None:
        return digest(answered.token_ids or ())
    return str(answered.output_tokens)
