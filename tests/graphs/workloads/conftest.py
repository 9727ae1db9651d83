"""A scripted model behind a real HTTP server, and a small corpus."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from langgraph.checkpoint.memory import InMemorySaver
from openai import AsyncOpenAI

from rejoule.graphs.corpus import Corpus, Document
from rejoule.graphs.workloads import load, settings_from

# What the scripted model says to each schema, in order; the last answer repeats. "text" is a request without schema.
Script = Mapping[str, Sequence[Any]]

TOPICS = ("bees", "ferries", "glaciers", "lanterns")


class ScriptedModel:
    """Answers requests from a script and remembers them."""

    def __init__(self) -> None:
        self.script: Script = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def names(self) -> list[str]:
        """The schemas asked for, in order of arrival."""
        return [name for name, _ in self.asked]

    def prompts(self, name: str) -> list[str]:
        """The last message of every request for that schema."""
        return [body["messages"][-1]["content"] for asked, body in self.asked if asked == name]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """The one route."""
        body = await request.json()
        name = body.get("response_format", {}).get("json_schema", {}).get("name", "text")
        answers = self.script.get(name, ["A plain answer."])
        answer = answers[min(self.names.count(name), len(answers) - 1)]
        self.asked.append((name, body))
        content = answer if isinstance(answer, str) else json.dumps(answer)
        common = {"id": "chatcmpl-1", "created": 0, "model": body["model"]}
        if not body.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
            return web.json_response({**common, "object": "chat.completion", "choices": [choice]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        deltas = [[{"index": 0, "delta": {"content": word}}] for word in content.split(" ")]
        for choices in [*deltas, []]:
            event = {**common, "object": "chat.completion.chunk", "choices": choices}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response


class Bench:
    """Runs workloads against the scripted model."""

    def __init__(self, client: AsyncOpenAI, model: ScriptedModel, corpus: Corpus) -> None:
        self.client, self.model, self.corpus = client, model, corpus

    async def run(
        self, name: str, script: Script, *, index: int = 0, seed: int = 7, **settings: Any
    ) -> tuple[list[dict[str, str]], list[str]]:
        """One workflow; gives its results and the names of the node executions, subgraphs' included."""
        self.model.script, self.model.asked = script, []
        workload = load(name)
        # Machines without a jail run these tests too; what code the script has is harmless.
        if any(spec.name == "sandbox" for spec in fields(workload.settings)):
            settings.setdefault("sandbox", "if-possible")
        sizes = settings_from(workload, {key: str(value) for key, value in settings.items()})
        graph = workload.build(self.client, "scripted", sizes, self.corpus).compile(checkpointer=InMemorySaver())
        inputs = workload.inputs(sizes, self.corpus, seed, index)
        ran: list[str] = []
        results: list[dict[str, str]] = []
        config: Any = {"configurable": {"thread_id": "1"}, "recursion_limit": 1000}
        async for _, mode, event in graph.astream(inputs, config, stream_mode=["updates", "values"], subgraphs=True):
            if mode == "updates":
                ran.extend(event)
            elif isinstance(event, dict) and "results" in event:
                results = event["results"]
        return results, ran


@pytest.fixture
def corpus() -> Corpus:
    """Four documents of about 400 tokens, each about its own topic."""
    return Corpus(
        tuple(
            Document(topic, f"All about {topic}", f"There is much to say about {topic}, and it is said here.\n" * 30)
            for topic in TOPICS
        )
    )


@pytest.fixture
async def bench(corpus: Corpus) -> AsyncIterator[Bench]:
    """The bench, with its server up."""
    model = ScriptedModel()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", model.complete)
    async with (
        TestServer(app) as server,
        AsyncOpenAI(base_url=f"{server.make_url('/v1')}", api_key="none", max_retries=0) as client,
    ):
        yield Bench(client, model, corpus)
