"""Whether a workflow reached its goal: what may be asked of a final state, and what a recording says then."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

import rejoule
from rejoule.graphs.success import Told, criterion

STATE: dict[str, Any] = {
    "passed": True,
    "score": 0.7,
    "exact": np.float64(0.5),
    "verdict": "pass",
    "code": "1",
    "worst": float("nan"),
    "review": {"notes": [{"ok": False}, SimpleNamespace(ok=True, _secret=True)]},
}


@pytest.mark.parametrize(
    ("test", "success"),
    [
        ("passed", True),
        ("passed=false", False),
        ("score>=0.7", True),
        ("score > 0.7", False),
        ("score<1e3", True),
        ("exact<=0.5", True),
        ("verdict=pass", True),
        ("verdict==fail", False),
        ("verdict!=fail", True),
        ("verdict=true", False),
        ("code=1", True),
        ("review.notes.0.ok", False),
        ("review.notes.-1.ok", True),
        (lambda state: state["score"] > 0.5, True),
        (lambda state: np.bool_(False), False),
    ],
)
def test_what_a_final_state_says(test: Any, success: bool) -> None:
    """Keys, what they hold, and functions say yes or no."""
    assert criterion(test).of(STATE) == Told(success)


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("missing", "the final state has no 'missing'"),
        ("review.score>1", "review has no 'score'"),
        ("review.notes.7.ok", "notes has no '7'"),
        ("review.notes.1._secret", "1 has no '_secret'"),
        ("verdict.upper", "verdict has no 'upper'"),
        ("score", "score is 0.7, neither true nor false"),
        ("verdict>=1", "verdict is 'pass', no number"),
        ("passed>=1", "passed is True, no number"),
        ("worst>=0", "worst is nan, no number"),
        (lambda state: state["score"], "gave 0.7, neither true nor false"),
        (lambda state: None, "gave None"),
        (lambda state: state["no"], "failed: KeyError: 'no'"),
        (lambda state: exit(), "failed: SystemExit"),
    ],
)
def test_unknown_is_not_false(test: Any, reason: str) -> None:
    """A state that does not say leaves success unknown, with the reason."""
    told = criterion(test).of(STATE)
    assert told.success is None and told.reason is not None and reason in told.reason


async def later(state: Any) -> bool:
    """Not a plain function."""
    return True


@pytest.mark.parametrize("wrong", ["", " ", ">=3", "score>=", "score>=high", "score>true", "a..b", "score==", 3, later])
def test_what_tells_nothing_is_refused(wrong: Any) -> None:
    """Before anything is recorded."""
    with pytest.raises(rejoule.RejouleError):
        criterion(wrong)


class State(TypedDict, total=False):
    """Of the graph below."""

    n: int
    score: float


def graph() -> Any:
    """Scores its input, and fails on 3."""

    def node(state: State) -> State:
        if state["n"] == 3:
            raise ValueError("three")
        return {"score": state["n"] / 10} if state["n"] != 4 else {}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile()


def recorded(test: Any, path: Path | None = None) -> rejoule.Trace:
    """Four workflows: two scores, a failure, and a state without a score."""
    with pytest.warns(rejoule.RejouleWarning):
        return rejoule.record(graph(), [{"n": n} for n in (1, 2, 3, 4)], success=test, output=path)


def test_a_recording_keeps_successes(tmp_path: Path) -> None:
    """A workflow that failed has not succeeded, one whose state does not say is unknown, and both are stored."""
    path = tmp_path / "t.jsonl"
    assert [w.success for w in recorded("score>=0.2", path).workflows] == [False, True, False, None]
    assert [w.success for w in rejoule.open_trace(path).workflows] == [False, True, False, None]


def test_what_is_unknown_is_told() -> None:
    """With how many, and why."""
    with pytest.warns(rejoule.RejouleWarning) as warned:
        rejoule.record(graph(), [{"n": n} for n in (1, 4)], success="score>=0.2")
    said = "of 1 workflow it is not known whether they succeeded; w0001: the final state has no 'score'"
    assert said in [str(warning.message) for warning in warned]


def test_a_key_that_no_state_has_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """By the graph's own keys, and no trace is left."""
    with pytest.raises(rejoule.RejouleError, match=r"no 'scor'.*n, score"):
        rejoule.record(graph(), [{"n": 1}], success="scor>=0.2", output=tmp_path / "t.jsonl")
    assert not (tmp_path / "t.jsonl").exists()


def test_a_file_is_not_loaded_twice(tmp_path: Path) -> None:
    """A function that lies beside the graph is that of the graph's own module."""
    file = tmp_path / "counted_agent.py"
    file.write_text(
        "from langgraph.graph import START, StateGraph\n"
        "from typing import TypedDict\n"
        "class State(TypedDict):\n    n: int\n"
        "ran = []\n"
        "def node(state): ran.append(1); return {'n': 2}\n"
        "builder = StateGraph(State)\nbuilder.add_node('node', node)\nbuilder.add_edge(START, 'node')\n"
        "graph = builder.compile()\n"
        "def good(state): return ran == [1] and state['n'] == 2\n"
    )
    with pytest.warns(rejoule.RejouleWarning, match="no LLM call"):
        trace = rejoule.record(f"{file}:graph", [{"n": 1}], success=f"{file}:good")
    assert [w.success for w in trace.workflows] == [True]
