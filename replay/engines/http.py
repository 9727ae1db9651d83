"""A server at a URL: any that speaks OpenAI's HTTP interface, in wall time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from rejoule.replay.energy.embedded import open_embedded
from rejoule.replay.energy.meter import Meter, Reading, energy_between, read
from rejoule.replay.energy.nvml import open_nvml
from rejoule.replay.engines.base import Answer, Measured
from rejoule.replay.requests import digest, exact_body, prompt_of, scaled_length
from rejoule.traces import RejouleError
from rejoule.traces.model import Call
from rejoule.traces.run import Configuration, Tier

EXACT_LENGTHS = ("vllm", "rejoule")
"""Values of ``owned_by`` of servers that understand ``min_tokens`` and ``ignore_eos``."""
PATHS = {"chat": "/chat/completions", "completions": "/completions"}


class HttpEngine:
    """Sends calls to a server; ``await HttpEngine.connect(...)`` makes one."""

    tier: Tier = "lengths"

    def __init__(
        self, configuration: Configuration, http: aiohttp.ClientSession, url: str, model: dict[str, Any]
    ) -> None:
        self._configuration = configuration
        self._http = http
        self._url = url
        self._model = model
        self._exact = model.get("owned_by") in EXACT_LENGTHS
        self._meters: list[Meter] = []
        self._before = Reading(())
        self._origin = monotonic()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()

    @classmethod
    async def connect(cls, configuration: Configuration, *, timeout_s: float = 600.0) -> HttpEngine:
        """Checks the server and opens its meters. ``timeout_s`` limits the silence between two pieces of an answer.

        Raises RejouleError if the server cannot be reached or lists no model.
        """
        url = api_url(configuration.engine)
        http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=timeout_s),
            json_serialize=lambda body: orjson.dumps(body).decode(),
        )
        try:
            engine = cls(configuration, http, url, await served_model(http, url))
            engine._meters = await _meters(http, url)
        except BaseException:
            await http.close()
            raise
        return engine

    async def start(self) -> None:
        self._before = await read(self._meters)
        self._origin = monotonic()

    def now_s(self) -> float:
        return monotonic() - self._origin

    def send(self, call: Call, due_s: float) -> None:
        task = asyncio.create_task(self._answer(call))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def wait(self, until_s: float | None) -> Sequence[Answer]:
        left_s = None if until_s is None else max(0.0, until_s - self.now_s())
        try:
            async with asyncio.timeout(left_s):
                found = [await self._answers.get()]
        except TimeoutError:
            return []
        with suppress(asyncio.QueueEmpty):
            while True:
                found.append(self._answers.get_nowait())
        if any(a.error for a in found) and not await self._alive():
            raise RejouleError(
                f"the server at {self._url} stopped answering",
                "start it again and repeat the command: finished runs are kept, the unfinished one is repeated",
            )
        return found

    async def finish(self) -> Measured:
        energy = energy_between(self._meters, self._before, await read(self._meters))
        return Measured(energy=energy, engine={"url": self._url, **self._model})

    async def close(self) -> None:
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        for meter in self._meters:
            await meter.close()
        await self._http.close()

    async def _answer(self, call: Call) -> None:
        wanted = scaled_length(call.output_tokens or _recorded_limit(call), self._configuration.output_scale)
        scale = self._configuration.input_scale
        body = exact_body(call, output_tokens=wanted, input_scale=scale, exact_lengths=self._exact)
        body["model"] = self._model["id"]
        sent_s = self.now_s()
        usage: dict[str, Any] = {}
        first_token_s: float | None = None
        finish_reason: str | None = None
        error: str | None = None
        try:
            async for event in self._events(call, body):
                if event.get("error"):
                    error = str(event["error"])
                usage = event.get("usage") or usage
                for choice in event.get("choices") or ():
                    if first_token_s is None and _has_token(choice):
                        first_token_s = self.now_s()
                    finish_reason = choice.get("finish_reason") or finish_reason
            if error is None and finish_reason is None:
                error = "the answer was cut"
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as fault:
            error = f"{type(fault).__name__}: {fault}".strip(": ")
        got, prompt = usage.get("completion_tokens"), usage.get("prompt_tokens")
        same_prompt = scale != 1 or call.prompt_tokens is None or prompt == call.prompt_tokens
        self._answers.put_nowait(
            Answer(
                call_id=call.id,
                sent_s=sent_s,
                end_s=self.now_s(),
                first_token_s=first_token_s,
                prompt_tokens=prompt,
                cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
                output_tokens=got,
                finish_reason=finish_reason,
                exact=None if got is None else got == wanted and same_prompt and error is None,
                prompt_digest=digest(prompt_of(body)),
                output_digest=str(got),
                error=error,
            )
        )

    async def _events(self, call: Call, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        async with self._http.post(self._url + PATHS[call.endpoint], json=body) as response:
            if response.status != 200:
                text = (await response.text())[:500]
                yield {"error": f"HTTP {response.status}: {text}"}
                return
            async for line in response.content:
                if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                    yield orjson.loads(line[6:])

    async def _alive(self) -> bool:
        try:
            async with self._http.get(f"{self._url}/models", timeout=aiohttp.ClientTimeout(total=10)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


def api_url(url: str) -> str:
    """The URL of the API's root, ending in ``/v1``. Raises RejouleError if it is no URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise RejouleError(f"engine {url!r} is unknown", "give sim, or a server's URL such as http://127.0.0.1:8000/v1")
    root = url.rstrip("/")
    return root if root.endswith("/v1") else f"{root}/v1"


async def served_model(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """What the server says of its first model: ``id``, ``owned_by``, ``max_model_len``."""
    remedy = "check the URL and that the server is up: curl " + url + "/models"
    try:
        async with http.get(f"{url}/models", timeout=aiohttp.ClientTimeout(total=15)) as response:
            if response.status != 200:
                raise RejouleError(f"the server at {url} answered HTTP {response.status}", remedy)
            models = (await response.json(content_type=None))["data"]
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise RejouleError(f"cannot reach a server at {url}: {error}", remedy) from error
    except (KeyError, TypeError, ValueError) as error:
        raise RejouleError(f"the server at {url} lists no models as OpenAI's interface does", remedy) from error
    if not models:
        raise RejouleError(f"the server at {url} serves no model", "load one, then repeat the command")
    return {k: models[0].get(k) for k in ("id", "owned_by", "max_model_len") if models[0].get(k) is not None}


async def _meters(http: aiohttp.ClientSession, url: str) -> list[Meter]:
    root = url.removesuffix("/v1")
    if (embedded := await open_embedded(http, root)) is not None:
        return [embedded]
    local = urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1", "0.0.0.0")
    nvml = open_nvml() if local else None
    return [nvml] if nvml is not None else []


def _has_token(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return bool(choice.get("text") or delta.get("content") or delta.get("tool_calls") or choice.get("token_ids"))


def _recorded_limit(call: Call) -> int:
    # A server that counted nothing: the text's length in words stands in, at three words to four tokens.
    return max(1, len((call.text or "").split()) * 4 // 3)
