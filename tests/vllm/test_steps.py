"""The simulated scheduler against vLLM's own, which computes every step on the CPU: equal batches, step by step."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.vllm.conftest import HERE
from tests.vllm.environment import vllm_environment
from tests.vllm.loads import (
    CROWDED,
    VERIFIED,
    VOCABULARY,
    Load,
    Planned,
    crowded_loads,
    digest,
    play,
    random_load,
    verified_loads,
)
from tests.vllm.orders import ORDERS, in_words

from rejoule.replay.engines.sim import output_ids, prompt_ids
from rejoule.replay.sim.limits import Limits
from rejoule.replay.vllm.plugin.arguments import plugin_path
from rejoule.replay.vllm.plugin.tap import read_tap
from rejoule.traces.model import Workflow
from rejoule.traces.store import load as load_trace

pytestmark = pytest.mark.vllm

BLOCK = 32
SIZES = {
    "sequential": {"chunks": 4, "chunk_tokens": 50, "summary_tokens": 16, "fan_in": 2},
    "interactive": {"turns": 2, "searches": 2, "passage_tokens": 60, "shared_prompt_tokens": 400, "answer_tokens": 16},
    "agentic": {"engineers": 2, "rounds": 2, "requirements_tokens": 16, "purpose_tokens": 10, "code_tokens": 30,
                "comment_tokens": 10},
    "composite": {"chunks": 3, "chunk_tokens": 50, "summary_tokens": 16, "passage_tokens": 60, "turns": 2,
                  "shared_prompt_tokens": 400, "code_tokens": 30, "engineers": 2},
}  # fmt: skip
ROOMY = Limits(16, 2048)
CHUNKED = Limits(16, 100, long_prefill_token_threshold=48)
FULL = Limits(16, 512)
RANKED = Limits(16, 512, policy="priority")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, where a Python with vLLM is named."""
    python = os.environ.get("VLLM_PYTHON")
    if not python:
        pytest.skip("VLLM_PYTHON names no Python that has vLLM; run: make test-vllm")
    folder = tmp_path_factory.mktemp("steps") / "model"
    subprocess.run([python, HERE / "tiny_model.py", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def workloads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Planned, ...]]:
    """The calls of the four workloads, recorded on the simulated engine, with ids that the tiny model knows."""
    folder = tmp_path_factory.mktemp("workloads")
    found = {}
    for graph, sizes in SIZES.items():
        path = folder / f"{graph}.jsonl"
        words = [word for name, value in sizes.items() for word in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "rejoule.replay", "record", graph, "-o", str(path), "--workflows", "3", *words]
        subprocess.run(command, check=True, capture_output=True, timeout=240)
        trace = load_trace(path)
        found[graph] = tuple(c for i, w in enumerate(trace.workflows) for c in planned(w, 5 * i))
    return found


def planned(workflow: Workflow, step: int) -> Iterable[Planned]:
    """The calls of a workflow that arrives at ``step``; a tool between two of them takes three steps."""
    before = workflow.predecessors("barrier")
    calls = {call.id: call for call in workflow.calls}

    def awaited(name: str) -> set[str]:
        return {c for p in before.get(name, ()) for c in ([p] if p in calls else awaited(p))}

    for call in sorted(calls.values(), key=lambda c: (c.submit_ns, c.id)):
        tools = any(p not in calls for p in before.get(call.id, ()))
        yield Planned(
            call.id,
            known(prompt_ids(call)),
            known(output_ids(call, 1.0)),
            priority=len(call.node) % 3,
            step=step,
            after=tuple(sorted(awaited(call.id))),
            gap=3 if tools else 0,
        )


def known(ids: Sequence[int]) -> tuple[int, ...]:
    return tuple(3 + i % (VOCABULARY - 3) for i in ids)


def real_steps(
    model: Path, loads: Sequence[Load], engine: str, taps: Sequence[Path | None] = ()
) -> list[list[dict[str, Any]]]:
    """What every step did in vLLM."""
    folder = model.parent
    named = [str(tap) if tap else None for tap in taps or [None] * len(loads)]
    messages = [load.message(engine, tap) for load, tap in zip(loads, named, strict=True)]
    (folder / "loads.json").write_bytes(orjson.dumps(messages))
    done = subprocess.run(
        [os.environ["VLLM_PYTHON"], HERE / "step_clock.py", model, folder / "loads.json", folder / "steps.jsonl"],
        env=vllm_environment() | {"PYTHONPATH": str(plugin_path()), "VLLM_USE_V2_MODEL_RUNNER": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [orjson.loads(line) for line in (folder / "steps.jsonl").read_bytes().splitlines()]


def as_played(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """vLLM's steps as the simulator tells its own: without the order in a batch, and the empty steps at the end."""
    told = [step | {"batch": {name: tuple(rest) for name, *rest in step["batch"]}} for step in steps]
    while told and not (told[-1]["batch"] or told[-1]["finished"]):
        told.pop()
    return told


def assert_equal(loads: Sequence[Load], real: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All steps, once they are found equal."""
    steps = []
    for number, (load, told) in enumerate(zip(loads, real, strict=True)):
        expected, played = as_played(told), play(load)
        for i, (a, b) in enumerate(zip(expected, played, strict=False)):
            assert a == b, f"load {number}, step {i}: {load.limits}"
        assert len(expected) == len(played), f"load {number}"
        steps += expected
    return steps


def test_random_loads_are_computed_in_equal_steps(model: Path) -> None:
    """200 random loads, with chunks, preemptions, shared and quoted prompts, priorities: every step is equal."""
    loads = verified_loads(async_scheduling=False)
    real = real_steps(model, loads, "model")
    steps = assert_equal(loads, real)
    assert digest(map(as_played, real)) == VERIFIED[False]
    assert len(steps) == 28_102
    assert sum(len(step["preempted"]) for step in steps) > 50
    assert sum(any(step["cached"].values()) for step in steps) > 200


def test_random_loads_are_scheduled_in_equal_steps(model: Path) -> None:
    """2000 on vLLM's scheduler alone, whose model answers at once: a step ahead of its tokens, and not."""
    ahead, behind = verified_loads(async_scheduling=True), []
    for seed in range(1000, 1900):
        ahead.append(random_load(seed, 4 if seed % 2 else 16, async_scheduling=True))
        behind.append(random_load(seed, 4 if seed % 2 else 16, async_scheduling=False))
    real = real_steps(model, [*ahead, *behind], "scheduler")
    steps = assert_equal([*ahead, *behind], real)
    assert digest(map(as_played, real[:200])) == VERIFIED[True]
    assert len(steps) == 198_107
    assert sum(len(step["preempted"]) for step in steps) > 1000


def test_crowded_loads_are_scheduled_in_equal_steps(model: Path) -> None:
    """612 that come at once to few blocks, in another order than they say: 2 of 3 have calls preempted."""
    behind, ahead = (crowded_loads(async_scheduling) for async_scheduling in (False, True))
    real = real_steps(model, [*behind, *ahead], "scheduler")
    steps = assert_equal([*behind, *ahead], real)
    assert digest(map(as_played, real[: len(behind)])) == CROWDED[False]
    assert digest(map(as_played, real[len(behind) :])) == CROWDED[True]
    assert len(steps) == 23_084
    assert sum(len(step["preempted"]) for step in steps) == 1720


def test_orders_worked_out_by_hand_are_those_of_vllm(model: Path) -> None:
    """Each shows one rule, which ``tests/replay/sim/test_orders.py`` holds the simulator to."""
    real = real_steps(model, [order.load for order in ORDERS.values()], "scheduler")
    assert {rule: in_words(as_played(steps)) for rule, steps in zip(ORDERS, real, strict=True)} == {
        rule: order.steps for rule, order in ORDERS.items()
    }


def test_workloads_are_computed_in_equal_steps(
    model: Path, workloads: dict[str, tuple[Planned, ...]], tmp_path: Path
) -> None:
    """The four workloads, with room, in chunks, with few KV blocks and by priority; the step tap tells the same."""
    loads = [
        Load(limits, calls, BLOCK, blocks(calls) if limits in (FULL, RANKED) else 600)
        for calls in workloads.values()
        for limits in (ROOMY, CHUNKED, FULL, RANKED)
    ]
    taps = [tmp_path / f"tap-{i}.jsonl" for i in range(len(loads))]
    real = real_steps(model, loads, "model", taps)
    steps = assert_equal(loads, real)
    assert any(step["preempted"] for step in steps)
    assert any(any(step["cached"].values()) for step in steps)
    for load, tap in zip(loads, taps, strict=True):
        assert tapped(tap) == computed(play(load))


def blocks(calls: Sequence[Planned]) -> int:
    """KV blocks that hold the longest call and little else."""
    return 5 + max(-(-(len(c.prompt) + len(c.output)) // BLOCK) for c in calls)


def tapped(path: Path) -> list[dict[str, tuple[int, ...]]]:
    return [
        {r.id: (r.computed_tokens, r.context_tokens, r.emitted_tokens, r.cached_tokens) for r in step.requests}
        for step in read_tap(path)
    ]


def computed(steps: Sequence[dict[str, Any]]) -> list[dict[str, tuple[int, ...]]]:
    return [{name: (*rest, s["cached"].get(name, 0)) for name, rest in s["batch"].items()} for s in steps if s["batch"]]
