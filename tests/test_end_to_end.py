"""The main job: record live workflows, replay them, attribute their energy.

One recording of each workload from the embedded engine serves every test; the server notes each request by its own
clock, as a witness.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from math import fsum
from pathlib import Path
from time import monotonic

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from openai import AsyncOpenAI

from rejoule.analysis.attribution import attribute
from rejoule.graphs.capture import probe
from rejoule.graphs.corpus import Corpus
from rejoule.graphs.record import record
from rejoule.graphs.workloads import WORKLOADS, load, settings_from
from rejoule.replay.embedded.server import make_app
from rejoule.replay.engines.open import open_engine
from rejoule.replay.experiment import run_experiment
from rejoule.replay.plan import Sweep, plan, swept
from rejoule.replay.replay import replay
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.check import EDGE_SETS
from rejoule.traces.model import Header, Trace, Vertex, Workflow
from rejoule.traces.run import Configuration
from rejoule.traces.runs import PlannedRun, load_runs
from rejoule.traces.store import TraceWriter, trace_digest
from rejoule.traces.store import load as load_trace

SETTINGS = {
    "sequential": {"chunk_tokens": "60", "summary_tokens": "20"},
    "interactive": {"turns": "3", "shared_prompt_tokens": "600", "answer_tokens": "20", "think_time_s": "0.03"},
    "agentic": {"sandbox": "if-possible", "code_tokens": "40", "requirements_tokens": "30", "comment_tokens": "20"},
    "composite": {
        "sandbox": "if-possible",
        "turns": "2",
        "shared_prompt_tokens": "600",
        "answer_tokens": "20",
        "think_time_s": "0.03",
        "chunk_tokens": "60",
        "summary_tokens": "20",
        "code_tokens": "40",
        "requirements_tokens": "30",
        "comment_tokens": "20",
    },
}
WORKFLOWS = 4
Pair = tuple[str, str]


@dataclass(frozen=True)
class Recorded:
    trace: Trace
    seen_s: dict[str, tuple[float, float]]
    """When the server got each call, and when it had answered, by its own clock."""


def embedded(seen: dict[str, tuple[float, float]] | None = None) -> TestServer:
    app = make_app(EngineConfig(load_profile("h200-llama-3.1-8b")), "embedded")

    @web.middleware
    async def witness(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        began = monotonic()
        response = await handler(request)
        if seen is not None and (name := request.headers.get("X-Request-Id")):
            seen["/".join(name.split("-")[-2:])] = began, monotonic()
        return response

    app.middlewares.append(witness)
    return TestServer(app)


async def recorded(name: str, path: Path) -> Recorded:
    seen: dict[str, tuple[float, float]] = {}
    workload = load(name)
    settings = settings_from(workload, SETTINGS[name])
    async with embedded(seen) as served:
        server = await probe(str(served.make_url("/v1")))
        async with AsyncOpenAI(base_url=server.base_url, api_key="none") as client:
            graph = workload.build(client, "embedded", settings, Corpus.standard_library()).compile()
            inputs = [workload.inputs(settings, Corpus.standard_library(), 7, i) for i in range(WORKFLOWS)]
            with TraceWriter(path, Header(graph=name, model="embedded")) as writer:
                await record(graph, inputs, server=server, writer=writer, name=name, config={"recursion_limit": 1000})
    return Recorded(load_trace(path), seen)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Recorded]]:
    folder = tmp_path_factory.mktemp("traces")
    yield {name: asyncio.run(recorded(name, folder / f"{name}.jsonl")) for name in WORKLOADS}


def joined(groups: list[list[str]]) -> set[Pair]:
    """Each group waits for all of the one before."""
    return {pair for before, after in pairwise(groups) for pair in product(before, after)}


def groups_of(vertices: list[Vertex]) -> list[list[str]]:
    """What one graph's logic demands: groups of calls and tool calls that follow one another."""
    parallel = ("map", "reduce", "engineer")
    groups: list[tuple[str, list[str]]] = []
    for vertex in vertices:
        name = vertex.node.rpartition("/")[2]
        if groups and groups[-1][0] == name and name in parallel:
            groups[-1][1].append(vertex.id)
        else:
            groups.append((name, [vertex.id]))
    shape = [(name, len(ids)) for name, ids in groups]
    match shape[0][0]:
        case "map":  # eight summaries are reduced four at a time, then the two that are left
            reduced = [("gather", 1), ("reduce", 2), ("gather", 1), ("reduce", 1), ("gather", 1)]
            assert shape == [("map", 8), *reduced]
        case "refine":
            assert shape == [("refine", 1)] * 8
        case "product_manager":
            team = shape[2][1]
            assert shape[:2] == [("product_manager", 1), ("architect", 1)] and shape[-1] == ("tester", 1)
            rounds = [(name, size) for name, size in shape[2:] if name != "tester"]
            assert rounds == [("engineer", team), ("reviewer", 1)] * (len(rounds) // 2)
        case _:
            assert shape[0] == ("person", 1) and shape[1] == ("decide", 1) and shape[-1] == ("answer", 1)
            assert {name for name, _ in shape} <= {"person", "decide", "search", "answer"}
    return [ids for _, ids in groups]


def demanded(workflow: Workflow) -> set[Pair]:
    """The edges that a workflow's graph demands, from its calls and the nodes they are in."""
    instance = {t.id: t.graph_instance for t in workflow.tasks}
    inside: dict[str, list[Vertex]] = {}
    for vertex in workflow.vertices.values():
        inside.setdefault(instance[vertex.task], []).append(vertex)
    if workflow.graph != "composite":
        assert list(inside) == [""]
        return joined(groups_of(inside[""]))
    planner, joiner = inside.pop("")
    assert (planner.node, joiner.node) == ("planner", "joiner") and len(inside) >= 2
    found: set[Pair] = set()
    for vertices in inside.values():
        found |= joined([[planner.id], *groups_of(vertices), [joiner.id]])
    return found


@pytest.mark.parametrize("name", WORKLOADS)
def test_recorded_dag(recordings: dict[str, Recorded], name: str) -> None:
    """The recorded edges of a workload are those that its graph's logic demands, in both edge sets."""
    for workflow in recordings[name].trace.workflows:
        assert workflow.status == "done"
        for edge_set in EDGE_SETS:
            found = {(s, t) for t, sources in workflow.predecessors(edge_set).items() for s in sources}
            assert found == demanded(workflow)


@pytest.mark.parametrize("name", WORKLOADS)
def test_server_agrees(recordings: dict[str, Recorded], name: str) -> None:
    """By the server's own clock, no call began before the calls that it waited for had ended."""
    trace, seen_s = recordings[name].trace, recordings[name].seen_s
    assert seen_s.keys() == {c.id for c in trace.calls}
    for workflow in trace.workflows:
        for edge in workflow.edges:
            if edge.source in seen_s and edge.target in seen_s:
                assert seen_s[edge.source][1] <= seen_s[edge.target][0]


def test_everything_is_recorded(recordings: dict[str, Recorded]) -> None:
    """Every call has its request, answer, token ids and usage; tools ran; prompts know what they quote."""
    for found in recordings.values():
        for call in found.trace.calls:
            assert call.succeeded and call.request["messages"] and call.token_ids and call.prompt_token_ids
            assert (call.prompt_tokens, call.output_tokens) == (len(call.prompt_token_ids), len(call.token_ids))
            assert call.cached_tokens is not None and call.submit_ns < call.end_ns
            streamed = call.request.get("stream", False)
            assert bool(call.chunk_ns) == streamed
    agentic, interactive = recordings["agentic"].trace, recordings["interactive"].trace
    tools = {t.name for w in (*agentic.workflows, *interactive.workflows) for t in w.tool_calls}
    assert {"run_doctests", "search", "person"} <= tools
    quoted = {part.source for call in interactive.calls for part in call.parts if part.kind == "quoted"}
    assert quoted & {call.id for call in interactive.calls}


async def test_attribution_adds_up(recordings: dict[str, Recorded], tmp_path: Path) -> None:
    """In every run of every workload, the nodes' joules and the idle ones add up to the total, to 1e-9."""
    traces = {name: found.trace for name, found in recordings.items()}
    sweep: Sweep = {"max_num_seqs": [1, 2, 16], "power_cap_w": [None, 250, 400], "output_scale": [1, 1.5]}
    configurations = list(swept(Configuration(arrivals="burst"), sweep))
    digests = {name: trace_digest(trace) for name, trace in traces.items()}
    experiment = plan(digests, configurations, trials=1, seed=0)
    await run_experiment(experiment, traces, tmp_path / "runs", open_engine)
    runs = load_runs(tmp_path / "runs").runs
    assert len(runs) == 4 * 18
    for run in runs:
        found = attribute(run)
        assert found is not None and run.energy.gpu_j
        nodes = fsum(e.total_j for e in found.by_node().values())
        assert nodes + found.idle_j == pytest.approx(run.energy.gpu_j, rel=1e-9)
        assert found.unattributed_j == 0 and all(e.total_j > 0 for e in found.by_node().values())
        assert run.certificate.exact_calls == len(run.calls) == len(list(traces[run.trace].calls))


@pytest.mark.parametrize("name", WORKLOADS)
async def test_replay_on_a_server(recordings: dict[str, Recorded], name: str) -> None:
    """Replayed twice on a URL: the same calls, order constraints and token counts, and modelled joules."""
    trace = recordings[name].trace
    async with embedded() as served:
        configuration = Configuration(engine=str(served.make_url("/v1")), arrivals="burst", time_scale=0.1)
        planned = PlannedRun(name, name, configuration, 0)
        runs = [await replay(trace, planned, trace_digest(trace), open_engine) for _ in range(2)]
    recorded_tokens = {c.id: (c.prompt_tokens, c.output_tokens) for c in trace.calls}
    for run in runs:
        assert {c.id: (c.prompt_tokens, c.output_tokens) for c in run.calls} == recorded_tokens
        assert run.certificate.exact_calls == len(run.calls) and not run.certificate.violations
        assert run.energy.gpu_j and run.energy.source["gpu"] == "model:h200-llama-3.1-8b"
        times = {c.id: (c.sent_s, c.end_s) for c in run.calls} | {t.id: (t.start_s, t.end_s) for t in run.tools}
        for workflow in trace.workflows:
            for target, sources in workflow.predecessors("barrier").items():
                assert all(times[source][1] <= times[target][0] for source in sources)
    assert runs[0].certificate == runs[1].certificate


async def test_spliced_prompts_hit_the_cache(recordings: dict[str, Recorded]) -> None:
    """Tier spliced finds answers of this replay in the prefix cache, which tier lengths cannot, at equal lengths."""
    trace = recordings["interactive"].trace
    cached, exact = {}, {}
    for tier in ("lengths", "spliced"):
        async with embedded() as served:
            url = str(served.make_url("/v1"))
            configuration = Configuration(engine=url, time_scale=0.1, options={"tier": tier})
            run = await replay(trace, PlannedRun(tier, tier, configuration, 0), trace_digest(trace), open_engine)
        cached[tier] = sum(c.cached_tokens or 0 for c in run.calls)
        exact[tier] = run.certificate.exact_calls
        assert run.certificate.tier == tier
    assert exact == {tier: len(list(trace.calls)) for tier in exact}
    assert cached["spliced"] > cached["lengths"]
