"""On a real vLLM: every forced request comes back exactly, whatever else happens, and the tap saw what happened."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
import pytest

from rejoule.replay.vllm.plugin.arguments import plugin_path, server_arguments
from rejoule.replay.vllm.plugin.forcing import forced_request
from rejoule.replay.vllm.plugin.tap import TapStep, read_tap, read_tap_header

pytestmark = pytest.mark.vllm

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "vllm"
STARTS_WITHIN_S = 300.0
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
BLOCK = 32
OPTIONS = [
    *("--load-format", "dummy", "--dtype", "bfloat16", "--enforce-eager", "--enable-prompt-tokens-details"),
    *("--max-model-len", "1024", "--block-size", str(BLOCK)),
    # Prompts take several steps, and the cache is too small for the batch.
    *("--max-num-batched-tokens", "128", "--num-gpu-blocks-override", "40"),
]
SAMPLINGS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1.0},
    {"temperature": 1.5, "top_p": 0.5, "top_k": 5},
    {"temperature": 0.7, "min_p": 0.2},
    {"temperature": 1.0, "repetition_penalty": 1.5, "frequency_penalty": 2.0, "presence_penalty": -2.0},
    {"temperature": 0, "logit_bias": {"7": 100.0}},
    {"temperature": 1.0, "seed": 7, "min_tokens": 1, "stop": ["a", "e"]},
]
END = 1
"""The tiny model's end-of-sequence token."""


@dataclass
class Server:
    url: str
    tap: Path


@dataclass
class Seen:
    """What the client saw of one request."""

    kind: str
    wanted: list[int]
    got: list[int] = field(default_factory=list)
    reason: str | None = None
    usage: dict[str, Any] | None = None


@pytest.fixture(scope="module")
def python() -> str:
    found = os.environ.get("VLLM_PYTHON")
    if not found:
        pytest.skip("VLLM_PYTHON names no Python that has vLLM; run: make test-vllm")
    return found


@pytest.fixture(scope="module")
def model(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    subprocess.run([python, SHARED / "tiny_model.py", folder], check=True)
    return folder


@contextmanager
def serving(python: str, model: Path, folder: Path, max_num_seqs: int, *, asynchronous: bool) -> Iterator[Server]:
    version = subprocess.run(
        [python, "-c", "import importlib.metadata as m; print(m.version('vllm-cpu'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    plugin = server_arguments(version, device="cpu", forced_tokens=True, step_tap=folder / "tap.jsonl")
    arguments, environment, program = (
        [*plugin.arguments],
        {**plugin.environment},
        ["-m", "vllm.entrypoints.openai.api_server"],
    )
    if asynchronous:
        arguments = [a.replace("rejoule_vllm.forced_tokens:", "async_server:") for a in arguments]
        environment["PYTHONPATH"] += f"{os.pathsep}{HERE}"
        program = [str(HERE / "async_server.py")]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [python, *program, "--model", str(model), "--served-model-name", "tiny", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--max-num-seqs", str(max_num_seqs), *OPTIONS, *arguments]
    url = f"http://127.0.0.1:{port}"
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, str(SHARED / "leash.py"), *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ENVIRONMENT, **environment},
            start_new_session=True,
        ) as leash,
    ):
        deadline = time.monotonic() + STARTS_WITHIN_S
        while leash.poll() is None and time.monotonic() < deadline:
            with suppress(OSError), urlopen(f"{url}/health", timeout=5):
                break
            time.sleep(0.2)
        else:
            pytest.fail("vLLM did not start:\n" + (folder / "log").read_text(errors="replace")[-3000:])
        yield Server(url, folder / "tap.jsonl")
        assert leash.stdin is not None
        leash.stdin.close()


def test_every_row_is_right_in_random_batches(python: str) -> None:
    subprocess.run([python, HERE / "check_rows.py", "200"], check=True, env={"PYTHONPATH": str(plugin_path())})


@pytest.mark.parametrize(("max_num_seqs", "asynchronous"), [(1, False), (16, False), (4, True), (16, True)])
async def test_forced_requests_are_exact_and_the_tap_adds_up(
    python: str, model: Path, tmp_path: Path, max_num_seqs: int, asynchronous: bool
) -> None:
    with serving(python, model, tmp_path, max_num_seqs, asynchronous=asynchronous) as server:
        assert read_tap_header(server.tap)["async_scheduling"] is asynchronous
        timeout = aiohttp.ClientTimeout(total=300)
        async with aiohttp.ClientSession(server.url, timeout=timeout) as session:
            await check_refusals(session)
            mixed = await send_all(session, "mixed", 200, {"forced": 6, "free": 1, "aborted": 1})
            check_outputs(mixed)
            before = await counters(session)
            taken = len(await tapped(server.tap))
            calm = await send_all(session, "calm", 80, {"forced": 3, "free": 1})
            check_outputs(calm)
            after = await counters(session)
        steps = await tapped(server.tap)
        check_requests(mixed | calm, steps)
        check_totals(Counter(after) - Counter(before), steps[taken:])
        if max_num_seqs == 16:
            assert any(s.preempted for s in steps)
        overlapping = sum(b.scheduled_ns < a.processed_ns for a, b in pairwise(steps))
        assert (overlapping > len(steps) / 2) is asynchronous


async def check_refusals(session: aiohttp.ClientSession) -> None:
    """What could not come back exactly is refused, not cut."""
    body = forced_request({"model": "tiny", "prompt": [5]}, [5, 6], "logits-processor")
    for wrong in ({"max_tokens": 3}, {"ignore_eos": False}, {"stop": ["x"]}, {"vllm_xargs": {"forced_token_ids": "x"}}):
        async with session.post("/v1/completions", json=body | wrong) as answer:
            assert answer.status == 400, await answer.text()
            assert "forced_token_ids" in await answer.text()


async def send_all(session: aiohttp.ClientSession, name: str, count: int, kinds: dict[str, int]) -> dict[str, Seen]:
    dice = random.Random(name)
    seen: dict[str, Seen] = {}
    limit = asyncio.Semaphore(40)

    async def send(number: int) -> None:
        kind = dice.choices(list(kinds), list(kinds.values()))[0]
        length = dice.choice([1, 2, dice.randint(3, 60), dice.randint(60, 150)])
        ids = [END if dice.random() < 0.1 else dice.randrange(5, 8192) for _ in range(length)]
        request = seen[f"{name}-{number}"] = Seen(kind, ids)
        async with limit:
            await send_one(session, f"{name}-{number}", request, dice)

    await asyncio.gather(*(send(i) for i in range(count)))
    return seen


async def send_one(session: aiohttp.ClientSession, name: str, seen: Seen, dice: random.Random) -> None:
    prompt = [dice.randrange(5, 8192) for _ in range(dice.choice([1, 33, dice.randint(40, 400)]))]
    if dice.random() < 0.4:
        prompt = [*range(100, 100 + 3 * BLOCK), *prompt]
    stream = seen.kind == "aborted" or dice.random() < 0.5
    body: dict[str, Any] = {"model": "tiny", "return_token_ids": True, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    if dice.random() < 0.4:
        path, body["messages"] = "/v1/chat/completions", [{"role": "user", "content": "word " * (len(prompt) // 4)}]
    else:
        path, body["prompt"] = "/v1/completions", prompt
    if seen.kind == "free":
        body |= {"max_tokens": len(seen.wanted), "ignore_eos": True, "temperature": 1.0}
    else:
        body = forced_request(body | dice.choice(SAMPLINGS), seen.wanted, "logits-processor")
    cut = dice.randint(0, len(seen.wanted))
    async with session.post(path, json=body, headers={"X-Request-Id": name}) as answer:
        assert answer.status == 200, await answer.text()
        if not stream:
            take(seen, await answer.json())
            return
        async for line in answer.content:
            if line.startswith(b"data: {"):
                take(seen, json.loads(line[6:]))
            if seen.kind == "aborted" and len(seen.got) >= cut:
                answer.close()
                return


def take(seen: Seen, said: dict[str, Any]) -> None:
    seen.usage = said.get("usage") or seen.usage
    for choice in said["choices"]:
        seen.got += choice.get("token_ids") or []
        seen.reason = choice.get("finish_reason") or seen.reason


def check_outputs(requests: dict[str, Seen]) -> None:
    for name, seen in requests.items():
        if seen.kind == "aborted":
            assert seen.got == seen.wanted[: len(seen.got)], name
        elif seen.kind == "forced":
            assert (seen.got, seen.reason) == (seen.wanted, "length"), name
        else:
            assert len(seen.got) == len(seen.wanted), name
    free = [seen for seen in requests.values() if seen.kind == "free"]
    assert free and any(seen.got != seen.wanted for seen in free), "nobody forces those"


def check_requests(requests: dict[str, Seen], steps: tuple[TapStep, ...]) -> None:
    """Prompt, cached and output tokens of every request that ran to its end, against what its client was told."""
    computed: Counter[str] = Counter()
    emitted: Counter[str] = Counter()
    cached: dict[str, int] = defaultdict(int)
    for request in (r for s in steps for r in s.requests):
        emitted[request.id] += request.emitted_tokens
        if request.prefill and not request.resumed:
            computed[request.id] += request.computed_tokens
            cached[request.id] += request.cached_tokens
    thrown_out = {i for s in steps for i in s.preempted}
    for name, seen in requests.items():
        if seen.kind == "aborted":
            continue
        assert seen.usage is not None
        assert emitted[name] == seen.usage["completion_tokens"] == len(seen.wanted)
        assert cached[name] == (seen.usage["prompt_tokens_details"] or {"cached_tokens": 0})["cached_tokens"]
        if name not in thrown_out:
            assert computed[name] + cached[name] == seen.usage["prompt_tokens"]


def check_totals(metrics: Counter[str], steps: tuple[TapStep, ...]) -> None:
    first = [r for s in steps for r in s.requests if r.prefill and not r.resumed]
    assert sum(r.emitted_tokens for s in steps for r in s.requests) == metrics["generation_tokens"]
    assert sum(r.cached_tokens for r in first) == metrics["prompt_tokens_cached"]
    assert sum(len(s.preempted) for s in steps) == metrics["num_preemptions"]
    if not any(s.preempted for s in steps):
        assert sum(r.computed_tokens for r in first) == metrics["prompt_tokens"] - metrics["prompt_tokens_cached"]


async def counters(session: aiohttp.ClientSession) -> dict[str, int]:
    """The server's own counters, once nothing runs any more."""
    while True:
        async with session.get("/metrics") as answer:
            lines = (await answer.text()).splitlines()
        values: Counter[str] = Counter()
        for line in lines:
            if line.startswith("vllm:") and "_bucket" not in line:
                name, value = line.rsplit(" ", 1)
                values[name.removeprefix("vllm:").split("{")[0].removesuffix("_total")] += int(float(value))
        if not values["num_requests_running"] + values["num_requests_waiting"]:
            return dict(values)
        await asyncio.sleep(0.2)


async def tapped(path: Path) -> tuple[TapStep, ...]:
    await asyncio.sleep(0.6)
    return read_tap(path)
