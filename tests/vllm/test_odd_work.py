"""Several answers, several prompts, answers let go, and what cannot be streamed, from and on a real vLLM."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypedDict
from urllib.request import urlopen

import orjson
import pytest
from langgraph.graph import START, StateGraph
from openai import OpenAI
from tests.odd_clients import graph_of
from tests.vllm.environment import vllm_environment
from tests.vllm.test_exact import OPTIONS

import rejoule
from rejoule.traces.model import Trace
from rejoule.traces.run import Run
from rejoule.traces.work import account, output_tokens

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore::rejoule.RejouleWarning")]

SEEDS = (0, 4, 7)


@pytest.fixture(scope="module")
def traces(server: str) -> dict[str, Trace]:
    return {f"odd{seed}": rejoule.record(graph_of(seed, ["none"]), [{}, {}], engine=server) for seed in SEEDS}


def test_a_server_at_a_url_does_the_recorded_work(server: str, traces: dict[str, Trace], tmp_path: Path) -> None:
    """At tier lengths: every call is replayed at its length, or named."""
    configuration = {"engine": server, "options": {"warm_up": False, "idle_s": 0}}
    for run in rejoule.replay_traces(traces, tmp_path / "runs", configuration, progress=False).runs:
        assert run.certificate.tier == "lengths"
        _adds_up(traces[run.trace], run)


def test_servers_of_our_own_do_it_token_for_token(
    server: str, traces: dict[str, Trace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At tier tokens: each of several answers comes back as recorded."""
    for name, value in vllm_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REJOULE_VLLM_PYTHON", str(Path(os.environ["VLLM_PYTHON"]).absolute()))
    with urlopen(f"{server}/models", timeout=10) as answer:
        model = orjson.loads(answer.read())["data"][0]["root"]
    options = {**OPTIONS, "enforce_eager": True, "enable_chunked_prefill": False, "model": model, "warm_up": False}
    configuration = {"engine": "vllm", "max_num_seqs": 4, "options": {**options, "idle_s": 0}}
    for run in rejoule.replay_traces(traces, tmp_path / "runs", configuration, progress=False).runs:
        assert run.certificate.tier == "tokens" and run.certificate.violations == ()
        _adds_up(traces[run.trace], run)


def test_log_probabilities_of_a_prompt_are_asked_for_whole(server: str, tmp_path: Path) -> None:
    """vLLM does not stream them: the call does its work all the same, and so does the one after it."""

    class State(TypedDict, total=False):
        said: str

    def ask(text: str, **more: object) -> str:
        with OpenAI() as client:
            said = client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": text}], max_tokens=6, extra_body=more
            )
        return said.choices[0].message.content or ""

    graph: StateGraph[State] = StateGraph(State)
    graph.add_node("judge", lambda state: {"said": ask("one two three", prompt_logprobs=1)})
    graph.add_node("last", lambda state: {"said": ask("and again")})
    graph.add_edge(START, "judge")
    graph.add_edge("judge", "last")
    trace = rejoule.record(graph, [{}], engine=server)
    configuration = {"engine": server, "options": {"warm_up": False, "idle_s": 0}}
    (run,) = rejoule.replay_traces(trace, tmp_path / "runs", configuration, progress=False).runs
    assert run.certificate.exact_calls == 2
    assert [call.first_token_s is None for call in run.calls] == [True, False]


def _adds_up(trace: Trace, run: Run) -> None:
    calls = {call.id: call for call in trace.calls}
    work = run.certificate.work
    assert work == account(trace) and work is not None
    assert work.recorded.calls == len(run.calls) + sum(named.amount.calls for named in work.left_out)
    for result in run.calls:
        assert result.error is None
        assert result.output_tokens == output_tokens(calls[result.id])
        assert (result.exact is True) == (not result.altered)
