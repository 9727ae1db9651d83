"""``rejoule record``: strangers' files unchanged, and one clear error for each mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rejoule.graphs.commands import record
from rejoule.traces.errors import RejouleError
from rejoule.traces.lineage import annotate
from rejoule.traces.model import Trace
from rejoule.traces.store import load

from .witness import Witness

EXAMPLES = Path(__file__).parents[3] / "examples"
KEY = "sk-the-users-own-key-123"

MINIMAL = """
from langgraph.graph import START, StateGraph
from typing import TypedDict
from openai import OpenAI

class State(TypedDict):
    question: str

def ask(state):
    print("noise on stdout")
    OpenAI().chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": state["question"]}])

builder = StateGraph(State)
builder.add_node("ask", ask)
builder.add_edge(START, "ask")
graph = builder.compile()
def make(): return builder
async def amake(): return graph
def needs(argument): return graph
other = 3
"""

INNER = """
from typing import TypedDict
from langgraph.graph import START, StateGraph

class Given(TypedDict):
    topic: str

class State(Given):
    notes: str

builder = StateGraph(State, input_schema=Given)
builder.add_node("ask", lambda state: {})
builder.add_edge(START, "ask")
graph = builder.compile()
"""

LEAVING = """
import sys
import types
from langgraph.graph import START, StateGraph
from openai import AsyncOpenAI, OpenAI
from typing import TypedDict

class State(TypedDict):
    question: str

def leave(state):
    if "leave" in state["question"]:
        sys.exit(3)

async def aleave(state):
    leave(state)

async def ask(state):
    async with AsyncOpenAI() as client:
        await client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": state["question"]}])

def made(node):
    builder = StateGraph(State)
    builder.add_node("leave", node)
    builder.add_node("ask", ask)
    builder.add_edge(START, "leave")
    builder.add_edge("leave", "ask")
    return builder.compile()

sync_graph, async_graph = made(leave), made(aleave)
"""

Cli = Callable[..., Any]


@pytest.fixture
def cli(witness: Witness, tmp_path: Path) -> Cli:
    """Runs the command in a process of its own, as a user does."""

    def run(target: str, *options: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        output = tmp_path / "trace.jsonl"
        command = [sys.executable, "-m", "rejoule.replay", "record", target, "-o", str(output)]
        done = subprocess.run(
            [*command, "--engine", witness.base_url, *options],
            capture_output=True,
            text=True,
            env={**os.environ, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(EXAMPLES.parent / ".src")},
            timeout=60,
        )
        assert (done.returncode == 0) == ok, done.stderr
        return done

    return run


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    path = tmp_path / "agent.py"
    path.write_text(MINIMAL)
    return path


def edges_by_name(trace: Trace) -> list[list[str]]:
    """Each workflow's vertices in order of start, by node or tool."""
    return [[getattr(v, "name", v.node) for v in workflow.vertices.values()] for workflow in trace.workflows]


@pytest.mark.parametrize(("name", "tool"), [("weather_agent.py", "tools"), ("langchain_agent.py", "get_weather")])
def test_tutorial_agent_records_unchanged(cli: Cli, tmp_path: Path, name: str, tool: str) -> None:
    """An agent with tools that knows nothing of ReJoule records as it is, and its key is nowhere in the bytes."""
    done = cli(f"{EXAMPLES}/{name}:graph", "--workflows", "2", "--json")
    found = json.loads(done.stdout)
    assert (found["workflows"], found["calls"], found["tool_calls"], found["failed"]) == (2, 6, 4, 0)
    path = tmp_path / "trace.jsonl"
    assert edges_by_name(load(path)) == [["agent", tool] * 2 + ["agent"]] * 2
    assert KEY.encode() not in path.read_bytes()


def test_prebuilt_agent_from_a_function(cli: Cli, tmp_path: Path) -> None:
    """LangChain's own agent, returned by a function, records too; its parts are known once loaded."""
    cli(f"{EXAMPLES}/prebuilt_agent.py:make_agent")
    trace = annotate(load(tmp_path / "trace.jsonl"))
    (names,) = edges_by_name(trace)
    assert names == ["model", "multiply", "model", "multiply", "model"]
    kinds = [{part.kind for part in call.parts} for call in trace.calls]
    assert all("static" in kind for kind in kinds)


@pytest.mark.parametrize("name", [":graph", ":builder", ":make", ":amake", ""])
def test_graph_in_every_form(cli: Cli, agent: Path, tmp_path: Path, name: str) -> None:
    """A compiled graph, a builder, a function of either kind, or the only graph of a file; output stays clean."""
    done = cli(f"{agent}{name}", "--input", '{"question": "why?"}', "--json")
    assert json.loads(done.stdout)["calls"] == 1
    assert "noise" in done.stderr
    trace = load(tmp_path / "trace.jsonl")
    assert trace.workflows[0].input == {"question": "why?"}
    assert trace.header.model == "tiny"


def test_one_input_a_line(cli: Cli, agent: Path, tmp_path: Path) -> None:
    """A file of inputs gives one workflow a line, in order, at random times of a seed."""
    inputs = tmp_path / "inputs.jsonl"
    inputs.write_text("\n".join(json.dumps({"question": f"q{i}"}) for i in range(3)))
    cli(f"{agent}:graph", "--input", str(inputs), "--arrivals", "poisson:50", "--seed", "4")
    workflows = load(tmp_path / "trace.jsonl").workflows
    assert [workflow.input["question"] for workflow in workflows] == ["q0", "q1", "q2"]
    assert [workflow.id for workflow in workflows] == ["w0000", "w0001", "w0002"]
    assert workflows[2].arrival_ns > workflows[1].arrival_ns > workflows[0].arrival_ns


def test_module_by_its_name(cli: Cli, agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module on the path is named as Python names it."""
    monkeypatch.chdir(agent.parent)
    assert "1 workflow of agent:graph" in cli("agent:graph", "--input", '{"question": "why?"}').stdout


def test_failing_workflows_are_kept_and_reported(cli: Cli, agent: Path, tmp_path: Path) -> None:
    """Where every workflow fails, the trace says how, and the command says so."""
    done = cli(f"{agent}:graph", "--input", '{"question": "BROKEN"}', ok=False)
    assert done.returncode == 2
    assert "no workflow came to its end; w0000 in ask: InternalServerError" in done.stderr
    assert "Traceback" not in done.stderr
    (workflow,) = load(tmp_path / "trace.jsonl").workflows
    assert (workflow.status, len(workflow.calls)) == ("failed", 3)


def test_killed_recording_keeps_what_was_complete(witness: Witness, agent: Path, tmp_path: Path) -> None:
    """A kill leaves every workflow that had ended readable."""
    inputs, output = tmp_path / "inputs.jsonl", tmp_path / "trace.jsonl"
    inputs.write_text("\n".join(json.dumps({"question": q}) for q in ("quick", "SLEEP=20 slow")))
    process = subprocess.Popen(
        [sys.executable, "-m", "rejoule.replay", "record", f"{agent}:graph", "-o", str(output),
         "--engine", witness.base_url, "--input", str(inputs)],
        env={**os.environ, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(EXAMPLES.parent / ".src")},
        stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (output.exists() and b'"record":"workflow"' in output.read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with pytest.raises(RejouleError):
        load(output)
    (workflow,) = load(output, salvage=True).workflows
    assert workflow.input == {"question": "quick"}


def test_interrupted_recording_is_whole(witness: Witness, agent: Path, tmp_path: Path) -> None:
    """Ctrl-C closes the workflows in progress as interrupted, with their calls, and one line counts them."""
    inputs, output = tmp_path / "inputs.jsonl", tmp_path / "trace.jsonl"
    inputs.write_text("\n".join(json.dumps({"question": q}) for q in ("quick", "SLEEP=3 slow", "SLEEP=3 never")))
    process = subprocess.Popen(
        [sys.executable, "-m", "rejoule.replay", "record", f"{agent}:graph", "-o", str(output),
         "--engine", witness.base_url, "--input", str(inputs), "--concurrency", "1"],
        env={**os.environ, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(EXAMPLES.parent / ".src")},
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while len(witness.sightings) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert said.splitlines()[-1] == (
        f"interrupted; {output} holds 1 workflow that came to an end, and 1 as far as they were"
    )
    quick, slow = load(output).workflows
    assert (quick.status, quick.error, len(quick.calls)) == ("done", None, 1)
    assert (slow.status, slow.error, len(slow.calls)) == ("interrupted", "StoppedError: the recording was stopped", 1)


def test_two_recordings_in_one_process(witness: Witness, tmp_path: Path) -> None:
    """A recording leaves no client behind that a later one in the same process would trip over."""
    commands = [["record", "sequential", "-o", str(tmp_path / f"{i}.jsonl")] for i in range(2)]
    code = (
        "import gc, sys\n"
        "from openai import AsyncOpenAI\n"
        "from rejoule.replay.cli.main import rejoule\n"
        "gc.disable()\n"
        f"for command in {commands!r}:\n"
        f"    rejoule([*command, '--engine', {witness.base_url!r}], prog_name='rejoule', standalone_mode=False)\n"
        "clients = [found for found in gc.get_objects() if isinstance(found, AsyncOpenAI)]\n"
        "sys.exit(not clients or not all(client.is_closed() for client in clients))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent / ".src")},
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["sync_graph", "async_graph"])
def test_node_that_exits(cli: Cli, tmp_path: Path, name: str) -> None:
    """A node that calls sys.exit() fails its own workflow, and no other."""
    path, inputs = tmp_path / "leaving.py", tmp_path / "inputs.jsonl"
    path.write_text(LEAVING)
    inputs.write_text("\n".join(json.dumps({"question": q}) for q in ("leave", "SLEEP=0.2 stay")))
    assert "1 workflow failed" in cli(f"{path}:{name}", "--input", str(inputs)).stderr
    left, stayed = load(tmp_path / "trace.jsonl").workflows
    assert (left.status, left.error) == ("failed", "NodeExitError: SystemExit(3)")
    assert (stayed.status, len(stayed.calls)) == ("done", 1)


def test_failure_before_any_call_leaves_no_trace(cli: Cli, agent: Path, tmp_path: Path) -> None:
    """Where nothing was asked of the server before all failed, the retry finds no file in its way."""
    for _ in range(2):
        done = cli(f"{agent}:graph", "--input", '{"other": 1}', ok=False)
        assert "no LLM call was made, and no trace is kept" in done.stderr
        assert not (tmp_path / "trace.jsonl").exists()


def test_graph_without_calls_is_warned_of(cli: Cli, tmp_path: Path) -> None:
    """A recording without any LLM call says so."""
    path = tmp_path / "inner.py"
    path.write_text(INNER)
    assert "warning: no LLM call was made" in cli(f"{path}:graph", "--input", '{"topic": "rain"}').stderr


def test_requests_that_are_no_calls_are_warned_of(cli: Cli, agent: Path, tmp_path: Path) -> None:
    """What reached the server and is no call of the trace is on the screen, in ``--json`` and in the trace."""
    more = "    import os, requests\n    requests.post(os.environ['OPENAI_BASE_URL'] + '/embeddings', json={})\n"
    agent.write_text(MINIMAL.replace("\nbuilder = ", f"{more}\nbuilder = ", 1))
    done = cli(f"{agent}:graph", "--input", '{"question": "why?"}', "--json")
    told = {"what": "POST /v1/embeddings is not captured", "requests": 1, "workflow": "w0000"}
    assert json.loads(done.stdout)["unrecorded"] == [told]
    assert "warning: 1 request not in the trace: POST /v1/embeddings" in done.stderr
    (kept,) = load(tmp_path / "trace.jsonl").unrecorded
    assert asdict(kept) == told


def test_failures_on_made_up_answers(agent: Path, tmp_path: Path) -> None:
    """Where all fails on the embedded engine, its made-up answers are named as the likely cause."""
    agent.write_text(MINIMAL.replace("\n\nbuilder", "\n    raise ValueError('two\\nlines')\n\nbuilder"))
    done = subprocess.run(
        [sys.executable, "-m", "rejoule.replay", "record", f"{agent}:graph", "-o", str(tmp_path / "t.jsonl"),
         "--input", '{"question": "why?"}'],
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent / ".src")},
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert "ValueError: two lines" in done.stderr
    assert done.stderr.endswith("the embedded engine's answers are made up: try --engine URL\n")


@pytest.mark.parametrize("seed", ["-1", str(2**63)])
def test_seed_out_of_range(agent: Path, tmp_path: Path, seed: str) -> None:
    """A seed that a trace cannot hold is a usage error."""
    result = CliRunner().invoke(record, [f"{agent}:graph", "-o", str(tmp_path / "t.jsonl"), "--seed", seed])
    assert result.exit_code == 2
    assert "--seed" in result.output


def test_help_is_quick() -> None:
    """Help loads neither LangGraph nor OpenAI's SDK."""
    code = "import rejoule.graphs.commands, sys; print('langgraph' in sys.modules or 'openai' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent / ".src")}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "False\n"


def mistake(*arguments: str) -> RejouleError:
    """The error that a command line ends in."""
    result = CliRunner().invoke(record, arguments)
    assert isinstance(result.exception, RejouleError), result.output
    assert "\n" not in result.exception.what
    return result.exception


@pytest.mark.parametrize(
    ("arguments", "what", "remedy"),
    [
        (["nonsense"], "'nonsense' is neither a workload nor a graph", "FILE.py:GRAPH"),
        (["{agent}:missing"], "has no 'missing'", "agent.py:graph"),
        (["{agent}:other"], "is no graph but 'int'", "StateGraph"),
        (["{agent}:needs"], "needs arguments (argument)", "without any"),
        (["{folder}/none.py:graph"], "there is no file", "agent.py:graph"),
        (["{agent}:graph"], "the graph wants an input (keys of its state: question)", '{"question": …}'),
        (["{inner}:graph"], "the graph wants an input (topic)", "--input '{\"topic\": …}'"),
        (["{agent}:graph", "--input", "{oops"], "--input is no JSON", "messages"),
        (["{agent}:graph", "--input", "@none.json"], "cannot read none.json", "give JSON"),
        (["{agent}:graph", "--set", "turns=3"], "--set and --documents are for workloads", "--input"),
        (["sequential", "--set", "turns"], "--set 'turns' sets nothing", "KEY=VALUE"),
        (["sequential", "--input", "{}"], "a workload makes its own inputs", "--set"),
        (["sequential", "--arrivals", "soon"], "arrivals 'soon' are unknown", "poisson:RATE"),
        (["{broken}:graph"], "importing broken.py failed: ZeroDivisionError", "importable"),
        (["{broken}:graph"], "ZeroDivisionError: two lines (broken.py, line 1)", "importable"),
        (["{lacking}:graph"], "No module named 'nowhere_to'", "lacking.py needs it: install"),
        ([".:graph"], "'.' is neither a Python file nor a module", "FILE.py:GRAPH"),
        (["{long}:graph"], "cannot read", "the path of a Python file"),
        (["{many}"], "holds 2 graphs", "many.py:a or {many}:b"),
        (["{agent}:graph", "--profile", "h200-llama-3.1-8b"], "--profile is for the embedded engine", "leave it out"),
        (["{agent}:graph", "--model", "gpt-5"], "does not serve 'gpt-5'", "choose one of tiny"),
    ],
)
def test_mistakes(witness: Witness, agent: Path, tmp_path: Path, arguments: list[str], what: str, remedy: str) -> None:
    """Each mistake ends in one line that names it, and one that says what to do, before anything is recorded."""
    broken, lacking = tmp_path / "broken.py", tmp_path / "lacking.py"
    broken.write_text("raise ZeroDivisionError('two\\nlines')")
    lacking.write_text("import nowhere_to.be_found")
    many, inner = tmp_path / "many.py", tmp_path / "inner.py"
    many.write_text(f"{MINIMAL}\na = graph\nb = builder.compile()\ndel graph")
    inner.write_text(INNER)
    places = {"{agent}": agent, "{folder}": tmp_path, "{broken}": broken, "{lacking}": lacking, "{many}": many}
    places |= {"{inner}": inner, "{long}": tmp_path / f"{'x' * 300}.py"}

    def placed(text: str) -> str:
        for name, path in places.items():
            text = text.replace(name, str(path))
        return text

    output = tmp_path / "trace.jsonl"
    error = mistake(*map(placed, arguments), "-o", str(output), "--engine", witness.base_url)
    assert what in error.what
    assert placed(remedy) in error.remedy
    assert not output.exists()


def test_unreachable_server(agent: Path, tmp_path: Path) -> None:
    """A server that does not answer is named, before anything is written."""
    error = mistake(f"{agent}:graph", "-o", str(tmp_path / "t.jsonl"), "--engine", "http://127.0.0.1:9/v1")
    assert error.what.startswith("no server answers at http://127.0.0.1:9/v1")
    assert "ssl" not in error.what
    assert "--engine sim" in error.remedy
    assert not (tmp_path / "t.jsonl").exists()


def test_outputs_that_cannot_be(agent: Path, tmp_path: Path) -> None:
    """An existing trace, a folder, a folder that is not there, and too long a name are refused at once."""
    old = tmp_path / "old.jsonl"
    old.write_text("precious")
    assert "--force" in mistake(f"{agent}:graph", "-o", str(old)).remedy
    assert old.read_text() == "precious"
    assert "File name too long" in mistake(f"{agent}:graph", "-o", str(tmp_path / ("x" * 300))).what
    assert "is a folder" in mistake(f"{agent}:graph", "-o", str(tmp_path)).what
    assert "mkdir" in mistake(f"{agent}:graph", "-o", str(tmp_path / "no" / "t.jsonl")).remedy


def test_answering_a_person_for_the_graph(cli: Cli, tmp_path: Path) -> None:
    """A graph that asks a person stops, and says how to go on; an answer takes it to its end."""
    target, given = f"{EXAMPLES}/approval.py:graph", ("--input", '{"topic": "rain"}')
    assert "answer it with --resume" in cli(target, *given).stderr
    assert load(tmp_path / "trace.jsonl").workflows[0].status == "interrupted"
    cli(target, *given, "--resume", "yes", "--force")
    (workflow,) = load(tmp_path / "trace.jsonl").workflows
    assert workflow.status == "done"
    assert [call.node for call in workflow.calls] == ["write", "publish"]


def test_recording_in_code(witness: Witness, tmp_path: Path) -> None:
    """The example that records from Python does."""
    output = tmp_path / "trace.jsonl"
    command = [sys.executable, str(EXAMPLES / "record_in_code.py"), witness.base_url, str(output)]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent / ".src")}
    said = subprocess.check_output(command, env=environment, text=True)
    assert "w0001: 4 calls, 6 edges, done" in said
    assert [len(workflow.calls) for workflow in load(output).workflows] == [3, 4]
