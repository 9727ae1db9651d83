"""Recording from and replaying on a real vLLM; ``make test-vllm`` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.vllm.sizes import sizes

from rejoule.traces.model import Trace
from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs
from rejoule.traces.store import load

pytestmark = pytest.mark.vllm

EXAMPLES = Path(__file__).parents[2] / "examples"
WORKFLOWS = 2

SIZES = sizes(shared_prompt_tokens=800, test_time_s=2)

ROUND = "(engineer ){1,2}reviewer "
PATHS = {
    "sequential": "(refine ){3}|(map ){3}gather (reduce ){2}gather reduce gather ",
    "interactive": "(person decide (search decide (search )?)?answer ){2}",
    "agentic": f"product_manager architect {ROUND}({ROUND}tester|tester|tester {ROUND}tester) ",
    "composite": "planner ((sequential|interactive|agentic) ){2,3}joiner ",
}
"""The nodes that each graph may run at these sizes, whatever the model says; a broken plan has one engineer."""


@dataclass(frozen=True)
class Recorded:
    graph: str
    path: Path
    trace: Trace


def rejoule(*words: object) -> list[dict[str, Any]]:
    """Runs the command and gives the JSON objects that it prints."""
    command = [sys.executable, "-m", "rejoule.replay", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return [orjson.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module", params=SIZES)
def recorded(request: pytest.FixtureRequest, server: str, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    graph: str = request.param
    path = tmp_path_factory.mktemp(graph) / f"{graph}.jsonl"
    sizes = [word for name, value in SIZES[graph].items() for word in ("--set", f"{name}={value}")]
    rejoule("record", graph, "-o", path, "--engine", server, "--workflows", WORKFLOWS, *sizes)
    return Recorded(graph, path, load(path))


def test_recorded_calls(recorded: Recorded) -> None:
    """Every call is recorded with the ids of its tokens, and the server counts as many."""
    trace = recorded.trace
    assert trace.header.server["owned_by"] == "vllm"
    assert [workflow.status for workflow in trace.workflows] == ["done"] * WORKFLOWS
    assert_complete(trace)


def test_recorded_nodes(recorded: Recorded) -> None:
    """Every graph and subgraph ran the nodes that its logic demands, in their order."""
    for workflow in recorded.trace.workflows:
        nodes = {task.id: task.node for task in workflow.tasks}
        ran: defaultdict[str, list[str]] = defaultdict(list)
        for task in sorted(workflow.tasks, key=lambda task: (task.step, task.start_ns)):
            if not task.node.endswith("__start__"):
                ran[task.graph_instance].append(task.node.rpartition("/")[2])
        assert len(ran) > (recorded.graph == "composite")
        for instance, names in ran.items():
            graph = nodes.get(instance, recorded.graph)
            assert re.fullmatch(PATHS[graph], "".join(f"{name} " for name in names)), (graph, names)


def test_replayed(recorded: Recorded, server: str, tmp_path: Path) -> None:
    """Two replays send the recorded calls in the recorded order, with exactly the recorded numbers of tokens."""
    assert_replays(recorded, server, tmp_path / "runs")


@pytest.mark.parametrize(
    "target", ["weather_agent.py:graph", "langchain_agent.py:graph", "prebuilt_agent.py:make_agent"]
)
def test_example(target: str, server: str, tmp_path: Path) -> None:
    """A LangGraph file that knows nothing of ReJoule is recorded and replayed unchanged, its tools included."""
    path = tmp_path / "example.jsonl"
    asked = '{"messages": [{"role": "user", "content": "What is the weather in Paris?"}]}'
    rejoule("record", EXAMPLES / target, "-o", path, "--engine", server, "--input", asked)
    example = Recorded(target, path, load(path))
    assert all(call.request["tools"] for call in example.trace.calls)
    assert_complete(example.trace)
    assert_replays(example, server, tmp_path / "runs")


def assert_complete(trace: Trace) -> None:
    calls = list(trace.calls)
    assert calls
    for call in calls:
        assert call.succeeded and call.cached_tokens is not None
        assert call.prompt_token_ids and len(call.prompt_token_ids) == call.prompt_tokens
        assert call.token_ids and len(call.token_ids) == call.output_tokens


def assert_replays(recorded: Recorded, server: str, folder: Path) -> None:
    trace = recorded.trace
    sizes = {call.id: (call.prompt_tokens, call.output_tokens) for call in trace.calls}
    said = rejoule("replay", recorded.path, "-o", folder, "--engine", server, "--trials", 2)
    assert [one["calls"] for one in said] == [len(sizes)] * 2
    assert [one["certificate"]["exact_calls"] for one in said] == [len(sizes)] * 2
    first, second = load_runs(folder).runs
    assert first.certificate == second.certificate
    assert (first.certificate.tier, first.certificate.violations) == ("lengths", ())
    for run in (first, second):
        assert {call.id: (call.prompt_tokens, call.output_tokens) for call in run.calls} == sizes
        assert all(call.cached_tokens is not None for call in run.calls)
        # Every run begins with a cache of its own, so only a trace of several calls can hit it.
        assert len(sizes) == 1 or sum(call.cached_tokens or 0 for call in run.calls) > 0
        assert_ordered(trace, run)


def assert_ordered(trace: Trace, run: Run) -> None:
    begun = {call.id: call.sent_s for call in run.calls} | {tool.id: tool.start_s for tool in run.tools}
    ended = {call.id: call.end_s for call in run.calls} | {tool.id: tool.end_s for tool in run.tools}
    for workflow in trace.workflows:
        for vertex, waited_for in workflow.predecessors("barrier").items():
            assert all(begun[vertex] >= ended[before] for before in waited_for), vertex
