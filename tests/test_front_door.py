"""What `import rejoule` promises."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.config import get_config
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from openai import OpenAI

import rejoule

ROOT = Path(__file__).parents[1]
PACKAGES = ("analysis", "graphs", "replay", "traces")


class State(TypedDict):
    topic: str
    answer: str


@dataclass
class Context:
    tone: str


def joke(state: State, runtime: Runtime[Context]) -> dict[str, str]:
    """Asks once, in the tone of its context, for as many tokens as its config says."""
    tone = runtime.context.tone if runtime.context else "dry"
    tokens = get_config().get("configurable", {}).get("tokens", 200)
    with OpenAI() as client:
        answer = client.chat.completions.create(
            model="any",
            messages=[{"role": "user", "content": f"A {tone} joke about {state['topic']}."}],
            max_tokens=tokens,
        )
    return {"answer": answer.choices[0].message.content or ""}


def joker() -> StateGraph[State, Context]:
    graph: StateGraph[State, Context] = StateGraph(State, context_schema=Context)
    graph.add_node("joke", joke)
    graph.add_edge(START, "joke")
    return graph


@pytest.fixture(scope="module")
def trace() -> rejoule.Trace:
    return rejoule.record(joker, [{"topic": "joules"}, {"topic": "watts"}], workflows=3, name="joker")


@pytest.fixture(scope="module")
def runs(trace: rejoule.Trace, tmp_path_factory: pytest.TempPathFactory) -> rejoule.RunFolder:
    folder = tmp_path_factory.mktemp("front") / "runs"
    return rejoule.replay_traces(trace, folder, sweep={"max_num_seqs": [1, 8]}, trials=2, progress=False)


def test_every_promised_name_is_there_and_explained() -> None:
    """Each name that the front door lists can be had, and says what it is; there is no other."""
    for name in rejoule.__all__:
        found = getattr(rejoule, name)
        assert inspect.getdoc(found), name
        assert found.__name__ == name
    assert dir(rejoule) == sorted(rejoule.__all__)
    public = {name for name in vars(rejoule) if not name.startswith("_")}
    assert public - {*PACKAGES, "annotations", "wraps", "TYPE_CHECKING", "Any"} <= set(rejoule.__all__)
    assert not set(PACKAGES) & set(rejoule.__all__)  # importing a package would take the name


def test_the_page_lists_what_is_promised() -> None:
    """docs/python.md names every promised name, and none that is not."""
    table = re.findall(r"^\| (`.*?`) \|", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE)
    named = {re.split(r"\W", word)[0] for row in table for word in re.findall(r"`([^`]+)`", row)}
    assert named == set(rejoule.__all__)


def test_importing_loads_nothing_heavy() -> None:
    """The import brings in no library but Python's own."""
    script = "import sys; before = set(sys.modules); import rejoule; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    foreign = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert foreign == {"rejoule"}
    assert not {"asyncio", "rejoule.traces", "rejoule.replay"} & set(loaded)


def test_records_a_graph_with_inputs_config_and_context(tmp_path: Path) -> None:
    """Config and context reach every workflow, and the trace is written where it is asked for."""
    path = tmp_path / "t.jsonl"
    trace = rejoule.record(
        joker,
        [{"topic": "volts"}],
        workflows=2,
        config={"configurable": {"tokens": 3}},
        context=Context("sad"),
        output=path,
    )
    asked = [call.request for call in trace.calls]
    assert [a["max_tokens"] for a in asked] == [3, 3]
    assert {a["messages"][0]["content"] for a in asked} == {"A sad joke about volts."}
    assert rejoule.open_trace(path) == trace


def test_records_inside_an_event_loop(trace: rejoule.Trace) -> None:
    """In a running loop, as a notebook's, one can await the recording or not."""

    async def notebook() -> list[rejoule.Trace]:
        return [
            rejoule.record(joker().compile(), [{"topic": "joules"}]),
            await rejoule.record_async(joker().compile(), [{"topic": "joules"}]),
        ]

    for found in asyncio.run(notebook()):
        assert [call.node for call in found.calls] == ["joke"]


def test_a_workflow_that_fails_is_told(tmp_path: Path) -> None:
    """A failed workflow is recorded, and warned of."""

    def broken() -> StateGraph[State]:
        graph: StateGraph[State] = StateGraph(State)
        graph.add_node("joke", lambda state: {}[state["topic"]])
        graph.add_edge(START, "joke")
        return graph

    with pytest.warns(rejoule.RejouleWarning) as told:
        trace = rejoule.record(broken, [{"topic": "joules"}])
    assert [str(one.message).partition(";")[0] for one in told] == [
        "1 workflow failed, and recorded as such",
        "no LLM call was made",
    ]
    assert trace.workflows[0].status == "failed"
    with pytest.raises(rejoule.RejouleError, match="no call that can be replayed"):
        rejoule.replay_traces(trace, tmp_path / "runs", progress=False)


def test_replays_what_it_is_given(trace: rejoule.Trace, tmp_path: Path) -> None:
    """A trace, a file, files, or traces by name: the runs are the same, and a second call takes them up."""
    path = tmp_path / "joker.jsonl"
    rejoule.save_trace(trace, path)
    given: list[Any] = [trace, path, [path], {"joker": trace}]
    found = [rejoule.replay_traces(g, tmp_path / f"runs{i}", progress=False) for i, g in enumerate(given)]
    assert all(each.runs == found[0].runs for each in found)
    assert rejoule.replay_traces(path, tmp_path / "runs0", progress=False).runs == found[0].runs
    assert rejoule.open_runs(tmp_path / "runs0").runs == found[0].runs


def test_replays_inside_an_event_loop(trace: rejoule.Trace, tmp_path: Path) -> None:
    """A notebook's own loop does not stand in the way."""

    async def notebook() -> int:
        return len(rejoule.replay_traces(trace, tmp_path / "runs", progress=False).runs)

    assert asyncio.run(notebook()) == 1


def test_runs_an_experiment_file(trace: rejoule.Trace, tmp_path: Path) -> None:
    """A file that is written for the command line runs from Python."""
    rejoule.save_trace(trace, tmp_path / "joker.jsonl")
    (tmp_path / "e.toml").write_text('traces = ["joker.jsonl"]\n[sweep]\nmax_num_seqs = [1, 2, 4]\n')
    found = rejoule.run_experiment(tmp_path / "e.toml", tmp_path / "runs", progress=False)
    assert [run.configuration.max_num_seqs for run in found.runs] == [1, 2, 4]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_tables_hold_what_the_objects_do(runs: rejoule.RunFolder, library: str) -> None:
    """Rows and sums of the data frames are those of the runs, in either library."""

    def frame(table: Any) -> dict[str, list[Any]]:
        made = getattr(table, f"to_{library}")()
        return {name: list(made[name]) for name in made.columns}

    of_runs = frame(runs)
    assert of_runs["run"] == [run.id for run in runs.runs]
    assert of_runs["max_num_seqs"] == [1, 1, 8, 8]
    assert of_runs["gpu_j"] == [run.energy.gpu_j for run in runs.runs]
    assert set(of_runs["gpu_source"]) == {"model:h200-llama-3.1-8b"}
    assert [j * n for j, n in zip(of_runs["workflow_j"], of_runs["complete_workflows"], strict=True)] == pytest.approx(
        of_runs["gpu_j"]
    )
    assert all(j <= 1 <= s for j, s in zip(of_runs["jain"], of_runs["slowdown"], strict=True))
    assert all("too few to tell" in note for note in of_runs["figure_notes"])
    assert len(frame(runs.calls)["id"]) == sum(len(run.calls) for run in runs.runs)
    energies = frame(rejoule.energy(runs, by="node", where={"max_num_seqs": 8}))
    assert "joke" in energies["part"]
    assert set(energies["max_num_seqs"]) == {8}
    assert fsum(energies["energy_j"]) == pytest.approx(runs.runs[-1].energy.gpu_j)
    found = rejoule.attribute(runs.runs[0])
    assert fsum(frame(found)["energy_j"]) == pytest.approx(runs.runs[0].energy.gpu_j)
    changes = frame(rejoule.diff(runs, a={"max_num_seqs": 1}, b={"max_num_seqs": 8}))
    assert "GPU energy" in changes["name"]
    assert "workflows" in changes["scope"] and "slowdown by waiting" in changes["name"]


def test_a_missing_data_frame_library_is_named(runs: rejoule.RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pandas, the error says what to install."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(rejoule.RejouleError, match="pip install pandas"):
        runs.to_pandas()


def test_writes_the_report(runs: rejoule.RunFolder, tmp_path: Path) -> None:
    """The page is written, and over nothing but a page."""
    page = rejoule.report(runs, tmp_path / "r.html")
    assert "joke" in page.read_text()
    rejoule.report(runs, page)
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(rejoule.RejouleError, match="is not a report"):
        rejoule.report(runs, tmp_path / "notes.html")


BAD: dict[str, tuple[str, str]] = {
    "unknown knob": ("replay_traces(t, new, sweep={'max_seqs': [1]})", "no knob is called max_seqs; knobs are"),
    "no list": ("replay_traces(t, new, sweep={'max_num_seqs': 8})", "write max_num_seqs = [8]"),
    "letters": ("replay_traces(t, new, sweep={'arrivals': 'burst'})", "write arrivals = ['burst']"),
    "text": ("replay_traces(t, new, sweep={'max_num_seqs': ['8']})", "a knob has a value that it cannot have"),
    "half": ("replay_traces(t, new, sweep={'max_num_seqs': [1.5]})", "a knob has a value that it cannot have"),
    "nothing swept": ("replay_traces(t, new, sweep={'max_num_seqs': []})", "max_num_seqs is an empty list"),
    "no traces": ("replay_traces([], new)", "there is nothing to replay"),
    "no trials": ("replay_traces(t, new, trials=0)", "0 trials are not possible"),
    "nameless": ("replay_traces([t, t], new)", "several traces need names"),
    "missing": ("replay_traces('no.jsonl', new)", "no.jsonl does not exist"),
    "foreign folder": ("replay_traces(t, full)", "holds other things"),
    "engine": ("replay_traces(t, new, Configuration(engine='simm'))", "engine 'simm' is unknown"),
    "inputs": ("record(joker, {'topic': 'x'})", "inputs is no list"),
    "letters in": ("record(joker, 'text')", "inputs is no list"),
    "fewer": ("record(joker, [{}, {}], workflows=1)", "at least as many workflows as inputs"),
    "none": ("record(joker, [{}], workflows=0)", "at least as many workflows as inputs"),
    "stuck": ("record(joker, [{'topic': 'x'}], concurrency=0)", "concurrency = 0 lets no workflow begin"),
    "no graph": ("record(42, [{}])", "is no graph but 'int'"),
    "taken": ("record(joker, [{'topic': 'x'}], output=full / 'notes')", "exists; give another output"),
    "swapped": ("save_trace('t.jsonl', t)", "trace cannot be a str; give the trace first"),
    "overwritten": ("save_trace(t, full / 'notes')", "exists; give another path"),
    "by": ("energy(runs, by='nodes')", "joules cannot be split by 'nodes'; choose one of workload, node"),
    "where": ("energy(runs, where='max_num_seqs=1')", "where cannot be a str"),
    "sides": ("diff(runs, a='max_num_seqs=1')", "a cannot be a str"),
    "whole folder": ("attribute(runs)", "run cannot be a RunFolder; give one run"),
    "number": ("open_runs(5)", "runs cannot be a int"),
    "file": ("open_runs(full / 'notes')", "is not a run folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_named_with_its_remedy(
    name: str, trace: rejoule.Trace, runs: rejoule.RunFolder, tmp_path: Path
) -> None:
    """What a user gets wrong raises RejouleError in a sentence, and leaves nothing behind."""
    code, said = BAD[name]
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes").write_text("mine")
    names = {"t": trace, "runs": runs, "joker": joker, "full": full, "new": tmp_path / "new"}
    with pytest.raises(rejoule.RejouleError, match=re.escape(said)):
        eval(f"rejoule.{code}", {"rejoule": rejoule, "Configuration": rejoule.Configuration, **names})
    assert (full / "notes").read_text() == "mine"
    assert not (tmp_path / "new").exists()


INTERRUPTED = """
import asyncio, sys, rejoule
def work():
    rejoule.{call}
    print("went on")
async def notebook():
    work()
print("begun", flush=True)
{how}
"""


@pytest.mark.parametrize("how", ["work()", "asyncio.run(notebook())"])
@pytest.mark.parametrize(
    ("call", "kept"),
    [
        ("record('agentic', workflows=200, concurrency=2, output='t.jsonl')", "t.jsonl"),
        ("replay_traces('many.jsonl', 'runs', {'loops': 50}, sweep={'max_num_seqs': range(1, 60)})", "runs/runs/*"),
    ],
)
def test_ctrl_c_ends_what_is_running(call: str, kept: str, how: str, tmp_path: Path) -> None:
    """An interrupt ends a recording or a replay at once, is not swallowed, and what was done is kept."""
    rejoule.record("sequential", workflows=4, output=tmp_path / "many.jsonl")
    script = INTERRUPTED.format(call=call, how=how)
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        while not list(tmp_path.glob(kept)):
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert "went on" not in out
    assert "KeyboardInterrupt" in err
    if kept == "t.jsonl":
        assert "the recording was interrupted; t.jsonl holds" in err
        rejoule.open_trace(tmp_path / "t.jsonl")
    else:
        assert 0 < len(rejoule.open_runs(tmp_path / "runs").runs) < 59


def test_warnings_come_each_time_and_name_the_caller() -> None:
    """A cell that is run again warns again, at its own line."""

    def silent() -> StateGraph[State]:
        graph: StateGraph[State] = StateGraph(State)
        graph.add_node("joke", lambda state: state)
        graph.add_edge(START, "joke")
        return graph

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(2):
            rejoule.record(silent, [{"topic": "joules"}])
    assert [Path(one.filename).name for one in told] == [Path(__file__).name] * 2


@pytest.mark.parametrize("script", ["record_in_code.py", "joules_by_node.py"])
def test_examples_use_only_the_front_door(script: str, tmp_path: Path) -> None:
    """The scripts run, and import nothing of ReJoule but its front door."""
    source = (ROOT / "examples" / script).read_text()
    imported = {
        name
        for node in ast.walk(ast.parse(source))
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.startswith("rejoule")
    }  # fmt: skip
    assert imported == {"rejoule"}
    command = [
        sys.executable,
        str(ROOT / "examples" / script),
        *(["sim", "t.jsonl"] if script == "record_in_code.py" else []),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
