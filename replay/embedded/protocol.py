"""OpenAI requests in vLLM's dialect: what they ask for, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rejoule.replay.embedded import tokenizer
from rejoule.replay.embedded.http_errors import BadRequestError, NotFoundError
from rejoule.replay.embedded.outputs import Ask, Guide, Output, Tool, answer, forced
from rejoule.replay.embedded.scalars import SchemaError

Body = Mapping[str, Any]
T = TypeVar("T")
MOST_ANSWERS = 128
_UNSUPPORTED = ("grammar", "structural_tag")


@dataclass(frozen=True)
class Limits:
    """What the server lets a request ask for."""

    model: str
    max_model_len: int
    any_model: bool = False
    priorities: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Call:
    """A request that can be served, with the answer that it will get."""

    model: str
    prompt_ids: Sequence[int]
    answer: Output
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    priority: int
    cache_salt: str | None
    again: bool = False
    """It is another answer to the prompt of the call before."""


def chat_calls(body: Body, limits: Limits) -> Sequence[Call]:
    """What a chat completion asks for, a call for each of its answers."""
    return _calls(chat_call, body, limits, [None])


def completion_calls(body: Body, limits: Limits) -> Sequence[Call]:
    """What a completion asks for: its prompts one after another, and each with all of its answers."""
    prompt = body.get("prompt")
    several = isinstance(prompt, list) and prompt and all(isinstance(one, str | list) for one in prompt)
    prompts: Sequence[Any] = prompt if several and isinstance(prompt, list) else [prompt]
    return _calls(completion_call, body, limits, prompts)


def _calls(one: Callable[[Body, Limits], Call], body: Body, limits: Limits, prompts: Sequence[Any]) -> Sequence[Call]:
    """A call for each answer, with a seed of its own, as equal answers would be no choice."""
    n = _take(body, "n", int, 1)
    if not 1 <= n * len(prompts) <= MOST_ANSWERS:
        raise BadRequestError(f"n must be from 1 to {MOST_ANSWERS} with all prompts, got {n} for {len(prompts)}", "n")
    for key in ("best_of", "use_beam_search"):
        if body.get(key) not in (None, False, n if key == "best_of" else False):
            raise BadRequestError(f"{key} is not supported by this engine", key)
    seed = _take(body, "seed", int, 0)
    if n * len(prompts) == 1:
        return [one(body if prompts[0] is None else {**body, "prompt": prompts[0]}, limits)]
    bodies = [
        {**body, "prompt": prompt, "seed": seed + i * n + k} for i, prompt in enumerate(prompts) for k in range(n)
    ]
    return [replace(one(each, limits), again=number % n > 0) for number, each in enumerate(bodies)]


def chat_call(body: Body, limits: Limits) -> Call:
    """The body of a chat completion."""
    messages = _messages(body)
    tools = _take(body, "tools", list, None)
    prompt = tokenizer.chat_ids(messages, tools)
    text = "\n".join(tokenizer.content_text(message.get("content")) for message in messages)
    most = _take(body, "max_completion_tokens", int, None)
    if most is None:
        most = _take(body, "max_tokens", int, None)
    choice, known = _tool_choice(body, tools)
    ask = _ask(
        body,
        limits,
        prompt,
        most,
        text=text,
        head=tokenizer.content_text(messages[0].get("content")),
        guide=_guide(body),
        tools=known,
        tool_choice=choice,
        parallel_tool_calls=_take(body, "parallel_tool_calls", bool, True),
        tool_results=sum(message["role"] == "tool" for message in messages),
    )
    return _call(body, limits, ask)


def completion_call(body: Body, limits: Limits) -> Call:
    """The body of a completion: its prompt is a string or token ids."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        ids: Sequence[int] = [tokenizer.BEGIN, *tokenizer.encode(prompt)]
        text = prompt
    elif isinstance(prompt, list) and all(isinstance(i, int) and 0 <= i < 2**53 for i in prompt):
        ids = prompt
        text = tokenizer.decode(ids[-2000:], skip_special=True)
    elif prompt is None:
        raise _missing("prompt")
    else:
        raise BadRequestError("prompt must be one string or one list of token ids", "prompt")
    if not prompt:
        raise BadRequestError("The decoder prompt cannot be empty", "prompt")
    most = _take(body, "max_tokens", int, 16)
    ask = _ask(
        body, limits, ids, most, text=text, head=tokenizer.decode(ids[:32], skip_special=True), guide=_guide(body)
    )
    return _call(body, limits, ask)


def model_of(body: Body, limits: Limits) -> str:
    """The model asked for, if it is the one served."""
    model: str = _take(body, "model", str, limits.model)
    if model != limits.model and not limits.any_model:
        raise NotFoundError(f"The model `{model}` does not exist.", "model")
    return model


def _call(body: Body, limits: Limits, ask: Ask) -> Call:
    model = model_of(body, limits)
    priority = _take(body, "priority", int, 0)
    if priority and not limits.priorities:
        raise BadRequestError(f"Got priority {priority} but Priority scheduling is not enabled.", "priority")
    salt = _take(body, "cache_salt", str, None)
    options = _take(body, "stream_options", dict, {})
    stream = _take(body, "stream", bool, False)
    if options and not stream:
        raise BadRequestError("Stream options can only be defined when `stream=True`.", "stream_options")
    ids = _forced_ids(_take(body, "vllm_xargs", dict, {}).get("forced_token_ids"))
    try:
        said = answer(ask) if ids is None else forced(ids[: ask.max_tokens])
    except SchemaError as error:
        raise BadRequestError(str(error), "structured_outputs") from error
    return Call(
        model,
        ask.prompt_ids,
        said,
        stream,
        bool(options.get("include_usage")),
        bool(options.get("continuous_usage_stats")),
        _take(body, "return_token_ids", bool, False),
        priority,
        salt,
    )


def _forced_ids(given: Any) -> list[int] | None:
    """A list of token ids, or the same as text, as in ``"5,17,9"``."""
    if given is None:
        return None
    found = [int(i) if i.isdecimal() else -1 for i in given.split(",")] if isinstance(given, str) else given
    if not (isinstance(found, list) and found and all(isinstance(i, int) and 0 <= i < 2**53 for i in found)):
        raise BadRequestError("forced_token_ids must be a list of token ids", "vllm_xargs")
    return found


def _ask(body: Body, limits: Limits, prompt: Sequence[int], most: int | None, **more: Any) -> Ask:
    room = limits.max_model_len - len(prompt)
    if most is not None and most < 1:
        raise BadRequestError(f"max_tokens must be at least 1, got {most}.", "max_tokens")
    if room < 1:
        raise BadRequestError(
            f"This model's maximum context length is {limits.max_model_len} tokens. However, your request has "
            f"{len(prompt)} input tokens. Please reduce the length of the input messages.",
            "input_tokens",
        )
    if most is not None and most > room:
        raise BadRequestError(
            f"'max_tokens' or 'max_completion_tokens' is too large: {most}. This model's maximum context length is "
            f"{limits.max_model_len} tokens and your request has {len(prompt)} input tokens "
            f"({most} > {limits.max_model_len} - {len(prompt)}).",
            "max_tokens",
        )
    least = _take(body, "min_tokens", int, 0)
    if not 0 <= least <= (room if most is None else most):
        raise BadRequestError(f"min_tokens must be from 0 to max_tokens={most}, got {least}.", "min_tokens")
    stop = body.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if not isinstance(stop, list) or not all(isinstance(one, str) and one for one in stop):
        raise BadRequestError("stop must be a string or a list of strings", "stop")
    seed = _take(body, "seed", int, 0)
    return Ask(
        prompt,
        room if most is None else most,
        min_tokens=least,
        ignore_eos=_take(body, "ignore_eos", bool, False),
        unlimited=most is None,
        stop=tuple(stop),
        seed=limits.seed * 1_000_003 + seed,
        **more,
    )


def _messages(body: Body) -> list[Body]:
    messages: list[Body] | None = _take(body, "messages", list, None)
    if messages is None:
        raise _missing("messages")
    if not messages:
        raise BadRequestError("messages must not be empty", "messages")
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise BadRequestError("every message must be an object with a role", "messages")
    return messages


def _tool_choice(body: Body, tools: list[Any] | None) -> tuple[str, tuple[Tool, ...]]:
    choice = body.get("tool_choice")
    if not tools:
        if choice not in (None, "none", "auto"):
            raise BadRequestError("When using `tool_choice`, `tools` must be set.", "tool_choice")
        return "none", ()
    known = []
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise BadRequestError("every tool must be an object with a function and its name", "tools")
        known.append(Tool(function["name"], function.get("parameters") or {}))
    if isinstance(choice, Mapping):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        if name not in [tool.name for tool in known]:
            raise BadRequestError(
                "The tool specified in `tool_choice` does not match any of the specified `tools`", "tool_choice"
            )
        return str(name), tuple(known)
    if choice not in (None, "none", "auto", "required"):
        raise BadRequestError(f"Invalid value for `tool_choice`: {choice}!", "tool_choice")
    return choice or "auto", tuple(known)


def _guide(body: Body) -> Guide | None:
    """The one restriction that a request puts on its answer, under any of the names for it."""
    asked = dict(_take(body, "structured_outputs", dict, {}))
    asked |= {key.removeprefix("guided_"): value for key, value in body.items() if key.startswith("guided_")}
    form = _take(body, "response_format", dict, {})
    match form.get("type", "text"):
        case "text":
            pass
        case "json_object":
            asked["json_object"] = True
        case "json_schema":
            inner = form.get("json_schema")
            if not isinstance(inner, Mapping) or inner.get("schema", inner.get("json_schema")) is None:
                raise BadRequestError("response_format json_schema needs a schema", "response_format")
            asked["json"] = inner.get("schema", inner.get("json_schema"))
        case other:
            raise BadRequestError(f"response_format type {other!r} is not supported", "response_format")
    asked = {k: v for k, v in asked.items() if v is not None and v is not False}
    for key in _UNSUPPORTED:
        if key in asked:
            raise BadRequestError(f"structured output by {key} is not supported by this engine", "structured_outputs")
    found = [key for key in ("json", "regex", "choice", "json_object") if key in asked]
    if len(found) > 1:
        raise BadRequestError("You can only use one kind of structured outputs constraint.", "structured_outputs")
    if not found:
        return None
    value = asked[found[0]]
    match found[0]:
        case "regex":
            if isinstance(value, str):
                return Guide("regex", value)
        case "choice":
            if isinstance(value, list) and value:
                return Guide("choice", value)
        case "json":
            if isinstance(value, str):
                try:
                    value = json.loads(value)
                except ValueError:
                    value = None
            if isinstance(value, Mapping | bool):
                return Guide("json", value)
        case _:
            return Guide("json", {"type": "object"})
    raise BadRequestError(f"structured output by {found[0]} has an invalid value", "structured_outputs")


def _take(body: Body, key: str, kind: type[T], default: Any) -> Any:
    """The field ``key``, checked to be of type ``kind``; null counts as absent."""
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadRequestError(f"{key} must be of type {kind.__name__}, got {type(value).__name__}", key)
    return value


def _missing(key: str) -> BadRequestError:
    return BadRequestError(f"[{{'type': 'missing', 'loc': ('body', '{key}'), 'msg': 'Field required'}}]", key)
