"""The server over real HTTP, mostly through the openai SDK."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import openai
import pytest
from msgspec.structs import replace

from rejoule.replay.embedded import tokenizer
from rejoule.replay.embedded.server import ServerThread, serve
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.errors import RejouleError

H200 = load_profile("h200-llama-3.1-8b")
MESSAGES: Any = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "What is a joule?"}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server twenty times faster than an H200."""
    with ServerThread(EngineConfig(H200, scheduling_policy="priority"), "sim", time_scale=20) as base:
        yield base


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk:
        yield sdk


async def ask(method: str, url: str, body: Any = None, **more: Any) -> tuple[int, Any]:
    """Status and body of one plain HTTP request."""
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    async with aiohttp.ClientSession() as session, session.request(method, url, data=data, **more) as response:
        raw = await response.read()
        return response.status, json.loads(raw) if "json" in response.content_type else raw.decode()


def test_a_chat_answers_the_same_whether_streamed_or_not(client: Any) -> None:
    """Text, ids, finish reason and usage agree between a streamed and a plain response, and between repetitions."""
    extra = {"return_token_ids": True}
    plain = client.chat.completions.create(model="sim", messages=MESSAGES, max_tokens=80, extra_body=extra)
    text, ids, finish, usage, prompt = "", [], None, None, None
    for chunk in client.chat.completions.create(
        model="sim", messages=MESSAGES, max_tokens=80, stream=True, stream_options={"include_usage": True},
        extra_body=extra,
    ):  # fmt: skip
        usage = chunk.usage or usage
        prompt = getattr(chunk, "prompt_token_ids", None) or prompt
        for choice in chunk.choices:
            text += choice.delta.content or ""
            ids += choice.token_ids
            finish = choice.finish_reason or finish
    choice = plain.choices[0]
    assert plain.usage is not None
    assert usage is not None
    assert text == choice.message.content
    assert ids == choice.token_ids
    assert prompt == plain.prompt_token_ids == tokenizer.chat_ids(MESSAGES)
    assert finish == choice.finish_reason
    assert tokenizer.decode(ids, skip_special=True) == text
    assert usage.completion_tokens == plain.usage.completion_tokens == len(ids)
    assert plain.usage.prompt_tokens == len(prompt)


def test_a_stream_has_a_chunk_for_every_token(client: Any) -> None:
    """Each chunk but the first, which names the role, carries one token; usage goes along when asked for."""
    chunks = list(
        client.chat.completions.create(
            model="sim", messages=MESSAGES, max_tokens=12, stream=True,
            stream_options={"include_usage": True, "continuous_usage_stats": True},
            extra_body={"min_tokens": 12, "ignore_eos": True, "return_token_ids": True},
        )
    )  # fmt: skip
    assert [len(c.choices[0].token_ids) for c in chunks[:-1]] == [0] + [1] * 12
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [*range(13), 12]
    assert chunks[-1].choices == []


def test_forced_ids_come_back_exactly(client: Any) -> None:
    """Both endpoints emit the ids that ``forced_token_ids`` demands, those of other tokenizers included."""
    forced = [5, 128000, *tokenizer.encode("exactly this")]
    extra = {"vllm_xargs": {"forced_token_ids": forced}, "return_token_ids": True, "ignore_eos": True}
    chat = client.chat.completions.create(model="sim", messages=MESSAGES, max_tokens=len(forced), extra_body=extra)
    plain = client.completions.create(model="sim", prompt=[1, 2, 3], max_tokens=len(forced), extra_body=extra)
    assert chat.choices[0].token_ids == plain.choices[0].token_ids == forced
    assert plain.choices[0].text == "<5><128000>exactly this"
    assert plain.choices[0].prompt_token_ids == [1, 2, 3]


def test_completions_take_text_and_ids_streamed_or_not(client: Any) -> None:
    """A text prompt and its ids get the same answer, of sixteen tokens unless told otherwise."""
    text = "The capital of France is"
    ids = [tokenizer.BEGIN, *tokenizer.encode(text)]
    answers = [client.completions.create(model="sim", prompt=prompt) for prompt in (text, ids)]
    stream = client.completions.create(model="sim", prompt=text, stream=True)
    assert answers[0].choices[0].text == answers[1].choices[0].text == "".join(c.choices[0].text for c in stream)
    assert answers[0].usage is not None
    assert answers[0].usage.completion_tokens <= 16


def test_the_next_turn_finds_the_conversation_in_the_cache(client: Any) -> None:
    """Cached tokens cover prompt and answer of the turn before; another salt, or a reset, finds nothing."""
    history = [{"role": "user", "content": "Tell me about turbines. " * 40}]
    first = client.chat.completions.create(model="sim", messages=history, max_tokens=200)
    history += [
        {"role": "assistant", "content": first.choices[0].message.content or ""},
        {"role": "user", "content": "And then?"},
    ]

    def cached(**extra: Any) -> int:
        reply = client.chat.completions.create(model="sim", messages=history, max_tokens=5, extra_body=extra)
        assert reply.usage is not None
        assert reply.usage.prompt_tokens_details is not None
        return reply.usage.prompt_tokens_details.cached_tokens or 0

    assert first.usage is not None
    assert cached() == (first.usage.total_tokens - 1) // 16 * 16
    assert cached(cache_salt="other") == 0


async def test_resetting_the_prefix_cache_empties_it(url: str) -> None:
    """After a successful reset the same prompt is computed again."""
    body = {"prompt": "word " * 200, "max_tokens": 1}
    for _ in range(2):
        _, reply = await ask("POST", f"{url}/v1/completions", body)
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert await ask("POST", f"{url}/reset_prefix_cache") == (200, {"success": True})
    _, reply = await ask("POST", f"{url}/v1/completions", body)
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_tools_schemas_and_choices_work_through_the_sdk(client: Any) -> None:
    """Required tool calls parse, streamed or not, and structured outputs obey."""
    tools: Any = [
        {
            "type": "function",
            "function": {
                "name": "search",
                "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
            },
        }
    ]
    plain = client.chat.completions.create(model="sim", messages=MESSAGES, tools=tools, tool_choice="required")
    assert plain.choices[0].finish_reason == "tool_calls"
    calls = plain.choices[0].message.tool_calls
    assert calls
    with client.chat.completions.stream(model="sim", messages=MESSAGES, tools=tools, tool_choice="required") as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed is not None
    assert [c.function.arguments for c in streamed] == [c.function.arguments for c in calls]
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    reply = client.chat.completions.create(model="sim", messages=MESSAGES, response_format=form)
    assert json.loads(reply.choices[0].message.content or "")["ok"] in (True, False)
    for extra in ({"structured_outputs": {"choice": ["a", "b"]}}, {"guided_regex": "a|b"}):
        reply = client.chat.completions.create(model="sim", messages=MESSAGES, extra_body=extra)
        assert reply.choices[0].message.content in ("a", "b")


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "says"),
    [
        ("chat/completions", b"{", 400, "BadRequestError", "json_invalid"),
        ("chat/completions", b"[]", 400, "BadRequestError", "object"),
        ("chat/completions", {}, 400, "BadRequestError", "messages"),
        ("chat/completions", {"messages": []}, 400, "BadRequestError", "messages"),
        ("chat/completions", {"messages": "hi"}, 400, "BadRequestError", "messages"),
        ("chat/completions", {"messages": MESSAGES, "n": 0}, 400, "BadRequestError", "n must be from 1"),
        ("chat/completions", {"messages": MESSAGES, "n": 2, "best_of": 4}, 400, "BadRequestError", "best_of"),
        ("chat/completions", {"messages": MESSAGES, "max_tokens": 0}, 400, "BadRequestError", "at least 1, got 0"),
        ("chat/completions", {"messages": MESSAGES, "max_tokens": "x"}, 400, "BadRequestError", "type int"),
        ("chat/completions", {"messages": MESSAGES, "max_tokens": 10**7}, 400, "BadRequestError", "too large"),
        ("chat/completions", {"messages": MESSAGES, "model": "other"}, 404, "NotFoundError", "`other` does not exist"),
        ("chat/completions", {"messages": MESSAGES, "tool_choice": "required"}, 400, "BadRequestError", "`tools`"),
        (
            "chat/completions",
            {"messages": MESSAGES, "structured_outputs": {"grammar": "x"}},
            400,
            "BadRequestError",
            "grammar",
        ),
        ("chat/completions", {"messages": MESSAGES, "guided_json": {"$ref": "#/x"}}, 400, "BadRequestError", "#/x"),
        ("completions", {}, 400, "BadRequestError", "prompt"),
        ("completions", {"prompt": []}, 400, "BadRequestError", "empty"),
        ("completions", {"prompt": ["a", 3]}, 400, "BadRequestError", "prompt"),
        ("completions", {"prompt": [7] * 200_000}, 400, "BadRequestError", "maximum context length"),
        ("nowhere", {}, 404, "Not Found", "Not Found"),
    ],
)
async def test_bad_requests_get_the_error_body_of_vllm(
    url: str, path: str, body: Any, status: int, kind: str, says: str
) -> None:
    """Status, type and shape are vLLM's; the message says what is wrong."""
    got, reply = await ask("POST", f"{url}/v1/{path}", body)
    assert (got, set(reply), set(reply["error"])) == (status, {"error"}, {"message", "type", "param", "code"})
    assert (reply["error"]["type"], reply["error"]["code"]) == (kind, status)
    assert says in reply["error"]["message"]


async def test_priorities_need_the_priority_policy() -> None:
    """As vLLM, a server scheduling first come first served refuses priorities; it may take any model name."""
    with ServerThread(EngineConfig(H200), "sim", any_model=True, time_scale=100) as url:
        body = {"prompt": "a", "model": "whatever", "priority": 1}
        assert (await ask("POST", f"{url}/v1/completions", body))[0] == 400
        status, reply = await ask("POST", f"{url}/v1/completions", body | {"priority": 0})
        assert (status, reply["model"]) == (200, "whatever")


async def test_small_endpoints(url: str) -> None:
    """Models, tokenize, detokenize, health, ping, version."""
    _, models = await ask("GET", f"{url}/v1/models")
    assert (models["data"][0]["id"], models["data"][0]["owned_by"]) == ("sim", "rejoule")
    assert models["data"][0]["max_model_len"] == 131072
    _, tokens = await ask("POST", f"{url}/tokenize", {"prompt": "Grüße, world"})
    assert tokens["count"] == len(tokens["tokens"])
    _, back = await ask("POST", f"{url}/detokenize", {"tokens": tokens["tokens"][1:]})
    assert back == {"prompt": "Grüße, world"}
    _, chat = await ask("POST", f"{url}/tokenize", {"messages": MESSAGES})
    assert chat["tokens"] == tokenizer.chat_ids(MESSAGES)
    for path in ("health", "ping"):
        assert (await ask("GET", f"{url}/{path}"))[0] == 200
    assert (await ask("GET", f"{url}/version"))[1]["version"]


async def test_metrics_are_prometheus_text_under_vllms_names(url: str) -> None:
    """Every sample line parses, and a request moves the counters."""

    async def read() -> dict[str, float]:
        _, text = await ask("GET", f"{url}/metrics")
        samples = [line for line in text.splitlines() if not line.startswith("#")]
        matches = [re.fullmatch(r'(vllm:\w+)\{engine="0",model_name="sim"(.*)\} (\S+)', line) for line in samples]
        return {m[1] + m[2]: float(m[3]) for m in matches if m}

    before = await read()
    await ask("POST", f"{url}/v1/completions", {"prompt": "a b c d", "max_tokens": 7, "ignore_eos": True})
    after = await read()
    assert after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] == 7
    assert after["vllm:prompt_tokens_total"] > before["vllm:prompt_tokens_total"]
    reason = 'vllm:request_success_total,finished_reason="length"'
    assert after[reason] - before[reason] == 1
    assert after["vllm:num_requests_running"] == 0.0


async def test_energy_grows_with_time_and_names_its_model(url: str) -> None:
    """Idle or not, joules accumulate, labelled as modelled."""
    _, first = await ask("GET", f"{url}/energy")
    await asyncio.sleep(0.05)
    _, second = await ask("GET", f"{url}/energy")
    assert second["source"] == "model:h200-llama-3.1-8b"
    assert second["energy_j"] > first["energy_j"]
    assert second["power_w"] == pytest.approx(load_profile("h200-llama-3.1-8b").power.idle_w, rel=0.02)


async def test_the_request_id_is_the_clients(url: str) -> None:
    """X-Request-Id comes back within the response's id."""
    _, reply = await ask("POST", f"{url}/v1/completions", {"prompt": "a"}, headers={"X-Request-Id": "mine"})
    assert reply["id"] == "cmpl-mine"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_its_seat(stream: bool) -> None:
    """After a disconnect the engine runs nothing, and the abort is counted."""
    with ServerThread(EngineConfig(H200), "sim") as url:
        body = {"prompt": "a", "max_tokens": 100_000, "ignore_eos": True, "stream": stream}
        with pytest.raises(asyncio.TimeoutError):
            await ask("POST", f"{url}/v1/completions", body, timeout=aiohttp.ClientTimeout(total=0.2))
        for _ in range(50):
            _, text = await ask("GET", f"{url}/metrics")
            if re.search(r"num_requests_running\{.*\} 0\.0", text) and re.search(r'"abort"\} 1\.0', text):
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("the request is still there")


async def test_wall_time_is_the_engines_time() -> None:
    """Unscaled, a lone request takes as long as the model says, and tokens come one by one."""
    with ServerThread(EngineConfig(H200), "sim") as url:
        body = {"prompt": "a", "max_tokens": 100, "ignore_eos": True, "stream": True}
        async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/completions", json=body) as response:
            arrivals = [time.monotonic() async for line in response.content if line.startswith(b"data: {")]
    assert len(arrivals) == 100
    # 4.4 ms a token by the model; the machine that tests may be busy.
    assert 0.40 < arrivals[-1] - arrivals[0] < 0.8


@pytest.mark.parametrize("stream", [True, False])
async def test_answers_are_as_late_as_the_profile_says(stream: bool) -> None:
    """In wall time, too, tokens need their time to the client, streamed or not."""
    slow = replace(H200, timing=replace(H200.timing, api_answer_s=0.3))
    with ServerThread(EngineConfig(slow), "sim") as url:
        body = {"prompt": "a", "max_tokens": 2, "ignore_eos": True, "stream": stream}
        async with aiohttp.ClientSession() as session:
            sent_s = time.monotonic()
            async with session.post(f"{url}/v1/completions", json=body) as response:
                await response.content.readline()
    assert time.monotonic() - sent_s > 0.3


async def test_many_requests_at_once_share_the_engine(url: str) -> None:
    """A hundred streams end, each with its own tokens."""

    async def one(session: aiohttp.ClientSession, i: int) -> int:
        body = {"prompt": f"request {i}", "max_tokens": 20 + i % 5, "ignore_eos": True, "stream": True}
        async with session.post(f"{url}/v1/completions", json=body) as response:
            return sum(line.startswith(b"data: {") for line in (await response.read()).splitlines())

    async with aiohttp.ClientSession() as session:
        counts = await asyncio.gather(*(one(session, i) for i in range(100)))
    assert counts == [20 + i % 5 for i in range(100)]


async def test_a_port_in_use_is_refused_with_a_remedy(url: str) -> None:
    """Serving on a taken port is one clear error."""
    with pytest.raises(RejouleError, match="take another port"):
        await asyncio.to_thread(serve, "127.0.0.1", int(url.rsplit(":", 1)[1]), EngineConfig(H200), "sim")


def guided(schema: Any) -> Any:
    kind = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return {"messages": MESSAGES, "response_format": kind}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "assistant", "tool_calls": 5}]},
        guided({"type": "string", "minLength": "x"}),
        guided({"type": "number", "multipleOf": 1e-300, "minimum": 1, "maximum": 2}),
        guided({"type": "array", "items": True, "minItems": 10**7}),
        guided({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
    ],
)
async def test_what_cannot_be_answered_is_refused_at_once(url: str, body: Any) -> None:
    """A request without sense, or without end, is the client's mistake, and keeps nobody waiting."""
    status, reply = await ask("POST", f"{url}/v1/chat/completions", body)
    assert (status, bool(reply["error"]["message"])) == (400, True)
    assert (await ask("GET", f"{url}/health"))[0] == 200


async def test_a_body_that_is_not_what_it_says_is_refused(url: str) -> None:
    """A body that claims to be compressed and is not is the client's mistake."""
    headers = {"Content-Encoding": "gzip"}
    assert (await ask("POST", f"{url}/v1/completions", b'{"prompt": "x"}', headers=headers))[0] == 400
