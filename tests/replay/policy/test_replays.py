"""Policies in whole replays: on the command line, on ``sim``, and on servers at a URL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from inspect import signature
from pathlib import Path

import orjson
import pytest

from rejoule.replay.embedded.server import ServerThread
from rejoule.replay.policy.registry import OWN, policy_class
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.model import Trace
from rejoule.traces.run import Configuration, Run, configuration_key, knobs
from rejoule.traces.runs import load_runs
from rejoule.traces.store import save
from rejoule.traces.testing import made_call, made_trace, made_workflow, random_trace

ROOT = Path(__file__).parents[3]
H200 = load_profile("h200-llama-3.1-8b")
LENGTHS = (40, 10, 30, 20, 50)


def rejoule(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rejoule.replay", *map(str, words)]
    env = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)


def replayed(place: Path, trace: Trace, *words: object) -> dict[str, Run]:
    """Runs by their policy."""
    save(trace, place / "t.jsonl")
    done = rejoule("replay", place / "t.jsonl", "-o", place / "runs", *words)
    assert done.returncode == 0, done.stderr
    return {run.configuration.policy or "none": run for run in load_runs(place / "runs").runs}


def refusal(place: Path, *words: object) -> str:
    save(random_trace(3), place / "t.jsonl")
    done = rejoule("replay", place / "t.jsonl", "-o", place / "refused", *words)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def queue() -> Trace:
    """A long call, and short ones of workflows that arrive one by one while it is answered."""
    found = [made_workflow([made_call("w0", "long", 0, 400, output_tokens=400)], {}, name="w0")]
    for i, tokens in enumerate(LENGTHS, 1):
        at_ms = 150 * i
        call = made_call(f"w{i}", f"c{tokens}", at_ms, at_ms + 10, prompt=f"{i}", output_tokens=tokens)
        found.append(made_workflow([call], {}, name=f"w{i}", arrival_ms=at_ms))
    return made_trace(found)


def answered(run: Run) -> list[int]:
    """Lengths of the answers in the order in which they began."""
    begun = sorted(run.calls, key=lambda c: c.first_token_s or 0.0)
    return [c.output_tokens or 0 for c in begun]


def test_the_simulated_queue_goes_by_a_policys_priorities(tmp_path: Path) -> None:
    """All calls are in the engine's queue at once, and one seat is given to them in the policy's order."""
    words = ("--max-num-seqs", 1, "--policy", "none,fcfs,shortest-path", "--policy-knows", "oracle")
    runs = replayed(tmp_path, queue(), *words)
    assert answered(runs["none"]) == answered(runs["fcfs"]) == [400, *LENGTHS]
    assert answered(runs["shortest-path"]) == [400, *sorted(LENGTHS)]
    assert len({run.certificate.digest for run in runs.values()}) == 1


def test_every_pass_of_a_run_is_scheduled_alike(tmp_path: Path) -> None:
    """Later passes know what the first one knew, and begin with a policy that has seen nothing."""
    words = ("--max-num-seqs", 1, "--policy", "shortest-path", "--policy-knows", "oracle", "--loops", 2)
    run = replayed(tmp_path, queue(), *words)["shortest-path"]
    assert answered(run) == [400, *sorted(LENGTHS)] * 2
    assert run.engine["policy"]["outlooks"] == {"recorded": 12}


def test_a_queue_that_is_kept_from_it_is_said(tmp_path: Path) -> None:
    """With the engine's queue first come, first served, a policy acts at the client only; every command says so."""
    words = ("--max-num-seqs", 1, "--policy", "shortest-path", "--policy-knows", "oracle")
    runs = replayed(tmp_path, queue(), *words, "--option", "scheduling_policy=fcfs")
    assert answered(runs["shortest-path"]) == [400, *LENGTHS]
    said = "the policy shortest-path acted at the client's gate only"
    again = rejoule("replay", tmp_path / "t.jsonl", "-o", tmp_path / "runs", *words, "--option",
                    "scheduling_policy=fcfs")  # fmt: skip
    for found in (again.stderr, rejoule("energy", tmp_path / "runs").stdout):
        assert said in " ".join(found.split())


def test_json_and_tables_name_the_policy_and_what_it_went_by(tmp_path: Path) -> None:
    """Where it acted, what its outlooks were means of, and how long calls were held."""
    save(random_trace(5, workflows=5), tmp_path / "t.jsonl")
    words = ["replay", tmp_path / "t.jsonl", "-o", tmp_path / "runs", "--policy", "las", "--concurrency", 2]
    done = rejoule(*words, "--json", "--policy-option", "half_life_s=30")
    body = orjson.loads(done.stdout)
    assert body["configuration"]["policy"] == "las" and body["configuration"]["policy_knows"] == "learned"
    assert body["engine"]["policy"]["acts"] == "the client's gate, and the engine's queue by priority"
    assert sum(body["engine"]["policy"]["outlooks"].values()) == body["calls"]
    assert "policy las, half_life_s=30" in rejoule(*words, "--policy-option", "half_life_s=30").stdout


def test_a_lone_workflow_has_nobody_to_learn_from(tmp_path: Path) -> None:
    """That is said, and the run is made all the same."""
    save(random_trace(5, workflows=1), tmp_path / "t.jsonl")
    done = rejoule("replay", tmp_path / "t.jsonl", "-o", tmp_path / "runs", "--policy", "nat")
    assert done.returncode == 0
    assert "of a trace of one workflow, of which it could learn nothing" in " ".join(done.stderr.split())


def test_equal_seeds_make_equal_bytes_with_a_policy_too(tmp_path: Path) -> None:
    """Policies are pure."""
    for name in "ab":
        (tmp_path / name).mkdir()
        replayed(tmp_path / name, random_trace(9, workflows=5), "--policy", "las,nat", "--max-num-seqs", 2)
    first, second = ({f.name: f.read_bytes() for f in (tmp_path / n / "runs").rglob("run.json")} for n in "ab")
    assert first == second and first


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--policy", "nobody"], "no policy is called 'nobody'"),
        (["--policy", "Shortest_Path"], "do you mean shortest-path? take one of none, fcfs"),
        (["--policy-knows", "oracle"], "policy_knows=oracle is for a policy, and there is none"),
        (["--policy-option", "x=1"], "the option x is for a policy"),
        (["--policy", "las", "--policy-option", "x"], "--policy-option 'x' is not KEY=VALUE"),
        (["--policy", "las,,nat"], "not a list of names"),
        (["--policy", "las", "--policy-knows", "all"], "choose learned or oracle"),
        (["--batching", "static"], "give concurrency, or max_num_seqs"),
        (["--engine", "http://127.0.0.1:9", "--policy", "las", "--option", "priority=3"], "give priority=true"),
        (["--engine", "http://127.0.0.1:9", "--option", "priority=true"], "is for a policy"),
        (
            ["--engine", "vllm", "--option", "model=m", "--policy", "las", "--option", "scheduling-policy=fcfs"],
            "leave it out: ReJoule starts vLLM with scheduling_policy=priority",
        ),
    ],
)
def test_what_has_no_meaning_is_refused_in_one_line(tmp_path: Path, words: list[str], told: str) -> None:
    """Before anything starts."""
    assert told in refusal(tmp_path, *words)


def test_waves_of_calls_need_more_time_than_places(tmp_path: Path) -> None:
    """Static batching lets no call begin before the wave before has ended, on any engine, and tables say so."""
    words = ("--arrivals", "burst", "--concurrency", 2, "--max-num-seqs", 8)
    (tmp_path / "waves").mkdir()
    plain = replayed(tmp_path, queue(), *words)["none"]
    waves = replayed(tmp_path / "waves", queue(), *words, "--batching", "static")["none"]
    assert waves.makespan_s > plain.makespan_s
    ends = [(c.sent_s, c.end_s) for c in waves.calls]
    assert all(len([1 for a, b in ends if a <= sent_s < b]) <= 2 for sent_s, _ in ends)
    for sent_s, _ in ends:
        assert all(end_s <= sent_s or other_s >= sent_s for other_s, end_s in ends)
    assert "static batching" in rejoule("energy", tmp_path / "waves" / "runs").stdout


@pytest.mark.parametrize("order", ["priority", "fcfs"])
def test_a_servers_queue_takes_priorities_where_it_is_said_to(tmp_path: Path, order: str) -> None:
    """At a URL the gate acts alone unless the user says that the server queues by priority; if not so, that ends."""
    config = EngineConfig(H200, max_num_seqs=1, scheduling_policy="priority" if order == "priority" else "fcfs")
    words = ["--policy", "shortest-path", "--policy-knows", "oracle"]
    with ServerThread(config, "sim", time_scale=1) as url:
        alone = replayed(tmp_path, queue(), "--engine", url, *words)["shortest-path"]
        assert answered(alone)[0] == 400 and answered(alone) != [400, *sorted(LENGTHS)]
        assert alone.engine["policy"]["acts"].startswith("the client's gate only")
        ranked = ["--engine", url, *words, "--option", "priority=true"]
        if order == "fcfs":
            done = rejoule("replay", tmp_path / "t.jsonl", "-o", tmp_path / "ranked", *ranked)
            assert done.returncode == 2 and "does not queue by priority: HTTP 400" in done.stderr
            assert "leave out priority=true" in done.stderr
            return
        (tmp_path / "ranked").mkdir()
        found = replayed(tmp_path / "ranked", queue(), *ranked)["shortest-path"]
        assert answered(found) == [400, *sorted(LENGTHS)]


def test_a_policys_file_that_changed_is_not_taken_for_the_same(tmp_path: Path) -> None:
    """An experiment whose policy was edited meanwhile is refused when it is taken up, as with a profile."""
    code = (ROOT / "examples" / "slack_policy.py").read_text()
    (tmp_path / "mine.py").write_text(code)
    save(random_trace(3), tmp_path / "t.jsonl")
    sweep = 'policy = ["none", "mine.py:SlackWaits"]\nmax_num_seqs = [1, 2]\n'
    (tmp_path / "e.toml").write_text(f'traces = ["t.jsonl"]\n[sweep]\n{sweep}')
    words = ("run", tmp_path / "e.toml", "-o", tmp_path / "runs")
    assert rejoule(*words).returncode == 0
    mine = [run.id for run in load_runs(tmp_path / "runs").runs if run.configuration.policy is not None]
    (tmp_path / "mine.py").write_text(f"{code}# another\n")
    for _ in range(2):  # a folder that holds all runs, and one that lacks one
        done = rejoule(*words)
        assert done.returncode == 2
        assert "mine.py:SlackWaits is not what it was" in done.stderr and "its policy's code: " in done.stderr
        shutil.rmtree(tmp_path / "runs" / "runs" / mine[0], ignore_errors=True)


def test_the_example_is_short_and_runs(tmp_path: Path) -> None:
    """A policy of your own is one file of thirty lines, which the documentation shows as it is."""
    path = ROOT / "examples" / "slack_policy.py"
    lines = path.read_text().splitlines()
    assert len(lines) <= 30
    shown = "\n".join(lines[lines.index("from dataclasses import dataclass") :])
    assert f"```python\n{shown}\n```" in (ROOT / "docs" / "policies.md").read_text()
    words = ("--policy", f"{path}:SlackWaits", "--policy-option", "most_slack_s=0.01", "--concurrency", 2)
    runs = replayed(tmp_path, random_trace(9, workflows=6), *words)
    (run,) = runs.values()
    assert run.engine["policy"]["held_calls"] > 0
    assert run.certificate.violations == ()


def test_the_documentation_lists_every_policy() -> None:
    """By its name, and with its options as they are."""
    page = (ROOT / "docs" / "policies.md").read_text()
    for name in OWN:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        options = {
            n: p.default for n, p in signature(policy_class(name)).parameters.items() if p.default is not p.empty
        }
        assert all(f"`{option}={usual}`" in row for option, usual in options.items())


OLD: Mapping[str, object] = {
    "engine": "sim", "profile": None, "max_num_seqs": 4, "power_cap_w": None, "sm_clock_mhz": None,
    "input_scale": 1.0, "output_scale": 1.0, "edge_set": "barrier", "arrivals": "recorded", "concurrency": None,
    "time_scale": 1.0, "loops": 1, "seed": 0, "options": {},
}  # fmt: skip


def test_configurations_without_a_policy_are_called_what_they_were() -> None:
    """Stored runs keep their names: knobs that are younger show only where they are set."""
    assert orjson.loads(configuration_key(Configuration(max_num_seqs=4))) == OLD
    assert "policy" in orjson.loads(configuration_key(Configuration(policy="las")))
    assert "policy_knows" not in knobs(Configuration())
    assert knobs(Configuration(policy="las", policy_options={"half_life_s": 3}))["policy_options.half_life_s"] == 3
