"""What a server did for a workflow is in its trace, and what is in the trace is replayed or named."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from tests.odd_clients import HABITS, graph_of

import rejoule
from rejoule.traces.model import Trace
from rejoule.traces.run import Run
from rejoule.traces.work import account, left_out, output_tokens

PROMPT_TOKENS = 20
FAULTS = ("none", "none", "none", "no usage", "no done", "cut", "refuses", "hangs up", "empty")


class Scripted:
    """A server that does to a request what its user wrote into it, and remembers what it did for each."""

    def __init__(self) -> None:
        self.requests = 0
        self.answers = 0
        """Begun."""
        self.tokens = 0
        """Of answers that were sent, whole or not."""
        self.faults = True
        self.app = web.Application()
        self.app.router.add_get("/v1/models", self._models)
        self.app.router.add_post("/v1/chat/completions", self._answer)
        self.app.router.add_post("/v1/completions", self._answer)

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "owned_by": "vllm"}]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompts = body["prompt"] if isinstance(body.get("prompt"), list) else [body.get("prompt")]
        answers = len(prompts) * (body.get("n") or 1)
        said = body["user"] if self.faults else "none"
        self.requests += 1
        if said == "refuses":
            self.answers += 1
            return web.json_response({"error": {"message": "no"}}, status=400)
        if said == "hangs up":
            self.answers += 1
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        self.answers += answers
        each = 0 if said == "empty" else body.get("max_tokens") or 4
        usage = {"prompt_tokens": PROMPT_TOKENS * len(prompts), "completion_tokens": each * answers}
        chat = request.path.endswith("chat/completions")
        if not body.get("stream"):
            self.tokens += each * answers
            return web.json_response(
                {
                    "choices": [_choice(i, " a" * each, "length", chat, "message", each) for i in range(answers)],
                    "prompt_token_ids": list(range(PROMPT_TOKENS)),
                    **({} if said == "no usage" else {"usage": usage}),
                }
            )
        return await self._stream(request, said, each, answers, usage, chat, bool(body.get("stream_options")))

    async def _stream(
        self, request: web.Request, said: str, each: int, answers: int, usage: Any, chat: bool, counts: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(event: Any) -> None:
            await response.write(b"data: " + orjson.dumps(event) + b"\n\n")

        with suppress(ConnectionResetError):
            for token in range(max(each, 1)):
                for i in range(answers):
                    finish = "length" if token >= each - 1 else None
                    await send({"choices": [_choice(i, " a" if each else "", finish, chat, "delta", min(each, 1))]})
                    self.tokens += min(each, 1)
                if said == "cut" and token == each // 2:
                    assert request.transport is not None
                    request.transport.close()
                    return response
            if counts and said != "no usage":
                await send({"choices": [], "usage": usage})
            if said != "no done":
                await response.write(b"data: [DONE]\n\n")
        return response


def _choice(index: int, text: str, finish: str | None, chat: bool, where: str, tokens: int) -> dict[str, Any]:
    said = {where: {"content": text}} if chat else {"text": text}
    return {"index": index, "finish_reason": finish, "token_ids": [7] * tokens if tokens else [], **said}


@contextmanager
def up(server: Scripted) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = web.AppRunner(server.app, shutdown_timeout=1)

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.filterwarnings("ignore::rejoule.RejouleWarning")
def test_what_was_recorded_is_replayed_and_named_together(tmp_path: Path, seed: int) -> None:
    """On odd servers, with odd clients: no answer that the server began is lost, by the recorder or by a replay."""
    server = Scripted()
    with up(server) as url:
        trace = rejoule.record(graph_of(seed, FAULTS), [{}, {}], engine=url, concurrency=2)
        assert _answers(trace) == server.answers
        # What the client did not read may have been sent.
        assert sum(output_tokens(call) for call in trace.calls if call.status == 200) <= server.tokens
        if not any(left_out(call) is None for call in trace.calls):
            return
        server.faults = False
        for engine in ("sim", url):
            options = {"warm_up": False, "idle_s": 0} if engine == url else {}
            configuration = {"engine": engine, "options": options}
            folder = tmp_path / ("sim" if engine == "sim" else "url")
            (run,) = rejoule.replay_traces(trace, folder, configuration, progress=False).runs
            _adds_up(trace, run)


def _answers(trace: Trace) -> int:
    """Answers that the server began for these calls: those of a beam search are in one call."""
    whole = [call for call in trace.calls if not call.request.get("use_beam_search")]
    beams = [call for call in trace.calls if call.request.get("use_beam_search")]
    # Where nothing came, nobody knows how many would have.
    return len(whole) + sum(2 if call.status == 200 else 1 for call in beams)


def _adds_up(trace: Trace, run: Run) -> None:
    calls = {call.id: call for call in trace.calls}
    work = run.certificate.work
    assert work is not None and work == account(trace)
    assert work.replayed.calls == len(run.calls)
    assert work.recorded.calls == len(run.calls) + sum(named.amount.calls for named in work.left_out) == len(calls)
    for result in run.calls:
        assert result.error is None
        assert result.output_tokens == max(1, output_tokens(calls[result.id]))
        assert (result.exact is True) == (not result.altered)
    known = [result for result in run.calls if not result.altered]
    assert run.certificate.exact_calls == len(known)
    assert sum(calls[r.id].output_tokens or 0 for r in known) == sum(r.output_tokens or 0 for r in known)


def test_the_law_has_what_it_is_about() -> None:
    """The random graphs do meet every habit and every fault."""
    met: set[str] = set()
    for seed in range(16):
        source = random.Random(seed)
        for _ in range(source.randint(1, 3)):
            for _ in range(source.randint(1, 3)):
                asks = [(source.choice(HABITS), source.choice(FAULTS), source.randint(2, 6)) for _ in range(3)]
                met |= {word for ask in asks[: source.randint(1, 3)] for word in ask[:2]}
    assert met == {*HABITS, *FAULTS}
