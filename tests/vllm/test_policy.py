"""Policies on a real vLLM: its queue goes by their priorities, and what they release together arrives together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.vllm.environment import vllm_environment

from rejoule.traces.model import Trace
from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs
from rejoule.traces.store import save
from rejoule.traces.testing import made_call, made_trace, made_workflow

pytestmark = pytest.mark.vllm

HERE = Path(__file__).parent
OPTIONS = {
    "load_format": "dummy",
    "dtype": "bfloat16",
    "enforce_eager": "true",
    "enable_chunked_prefill": "false",
    "block_size": 32,
    "num_gpu_blocks": 400,
}
LENGTHS = (40, 10, 30, 20, 50)
"""Tokens of the answers, in the order of arrival."""
LATE_MS = 300.0
"""When they arrive, while a call before them keeps the only seat."""
GROUP = """
from rejoule.replay.policy import Decision, Policy, Send, View


class Together(Policy):
    \"\"\"Holds everything until five calls are pending.\"\"\"

    def decide(self, view: View) -> Decision:
        alone = view.pending[0].node == "long"
        return Decision(tuple(Send(c.id) for c in view.pending) if alone or len(view.pending) == 5 else ())
"""


def load(every_ms: float) -> Trace:
    """A long call, and short ones that arrive behind it, so many milliseconds apart."""
    first = made_workflow([made_call("w0", "long", 0, 100, prompt="long", output_tokens=1500)], {}, name="w0")
    found = [first]
    for i, tokens in enumerate(LENGTHS, 1):
        at_ms = LATE_MS + i * every_ms
        call = made_call(f"w{i}", f"c{tokens}", at_ms, at_ms + tokens, prompt=f"{i}", output_tokens=tokens)
        found.append(made_workflow([call], {}, name=f"w{i}", arrival_ms=at_ms))
    return made_trace(found)


def replayed(trace: Trace, place: Path, *words: object, env: Mapping[str, str] = os.environ) -> dict[str | None, Run]:
    """Runs by their policy, of which a file's is known by its class."""
    place.mkdir()
    save(trace, place / "t.jsonl")
    command = [sys.executable, "-m", "rejoule.replay", "replay", place / "t.jsonl", "-o", place / "runs", *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900, env=env)
    assert done.returncode == 0, done.stderr
    names = {(run.configuration.policy or "none").rpartition(":")[2]: run for run in load_runs(place / "runs").runs}
    return {None if name == "none" else name: run for name, run in names.items()}


@pytest.fixture(scope="module")
def on_vllm(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], dict[str, str]]:
    """What makes ``rejoule replay`` use a real vLLM: words, and an environment."""
    if not (python := os.environ.get("VLLM_PYTHON")):
        pytest.skip("VLLM_PYTHON names no Python that has vLLM; run: make test-vllm")
    model = tmp_path_factory.mktemp("policy") / "model"
    subprocess.run([python, HERE / "tiny_model.py", model], check=True)
    options = {**OPTIONS, "model": model}
    words = [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
    # Not resolved: it is by its own path that a Python knows its environment.
    env = {**vllm_environment(), "REJOULE_VLLM_PYTHON": str(Path(python).absolute())}
    return ["--engine", "vllm", *words], env


def begun_s(run: Run) -> dict[str, float]:
    """When the engine step began in which each call was first computed, in the order of the steps."""
    assert run.steps is not None
    found: dict[str, float] = {}
    for step in run.steps:
        for name, _, _ in step.prefill:
            found.setdefault(name, step.start_s)
    return found


def test_vllm_admits_by_the_priorities_of_a_policy(
    on_vllm: tuple[list[object], dict[str, str]], tmp_path: Path
) -> None:
    """With one seat, the calls that wait in vLLM's own queue begin as the policy ranks them, and as on ``sim``."""
    words, env = on_vllm
    knobs = ["--max-num-seqs", 1, "--policy", "fcfs,shortest-path", "--policy-knows", "oracle"]
    trace = load(every_ms=20)
    for attempt in range(3):
        real = replayed(trace, tmp_path / f"real{attempt}", *words, *knobs, env=env)
        if all(all_wait(run) for run in real.values()):
            break  # a busy machine may send the last ones when the first has ended
    modelled = replayed(trace, tmp_path / "sim", *knobs)
    arrived = ["w0/long", *(f"w{i}/c{tokens}" for i, tokens in enumerate(LENGTHS, 1))]
    ranked = ["w0/long", *sorted(arrived[1:], key=lambda name: int(name.partition("/c")[2]))]
    for policy, order in (("fcfs", arrived), ("shortest-path", ranked)):
        assert list(begun_s(real[policy])) == list(begun_s(modelled[policy])) == order
        assert real[policy].certificate.violations == ()
        assert real[policy].engine["scheduling_policy"] == "priority"
        assert all_wait(real[policy])
    assert len({run.certificate.digest for run in real.values()}) == 1


def test_what_a_policy_releases_together_arrives_together(
    on_vllm: tuple[list[object], dict[str, str]], tmp_path: Path
) -> None:
    """Calls due 0.5 s apart are sent at once; how far apart they begin is the time that vLLM's HTTP server takes."""
    words, env = on_vllm
    (tmp_path / "together.py").write_text(GROUP)
    found: dict[str | None, Run] = {}
    for place, policy in (("plain", "none"), ("held", f"{tmp_path / 'together.py'}:Together")):
        knobs = ["--max-num-seqs", 8, "--policy", policy]
        found |= replayed(load(every_ms=500), tmp_path / place, *words, *knobs, env=env)
    sent, begun = ({p: spread(times(r)) for p, r in found.items()} for times in (sent_s, begun_s))
    assert sent[None] > 1.8 and begun[None] > 1.5
    # At once on a machine that has nothing else to do; on a busy one a client is held up between two of them.
    assert sent["Together"] < 0.6 and begun["Together"] < 0.8
    assert found["Together"].engine["policy"]["held_calls"] > 0


def all_wait(run: Run) -> bool:
    """Whether every call had been sent before any ended."""
    return max(c.sent_s for c in run.calls) < min(c.end_s for c in run.calls)


def sent_s(run: Run) -> dict[str, float]:
    return {call.id: call.sent_s for call in run.calls}


def spread(times: Mapping[str, float]) -> float:
    """From the first to the last of the short calls."""
    short = [at_s for name, at_s in times.items() if name != "w0/long"]
    assert len(short) == len(LENGTHS)
    return max(short) - min(short)
