"""The table of runs."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from tests.analysis import builders

import rejoule
from rejoule.replay.cli.tables import named
from rejoule.traces.run import Configuration
from rejoule.traces.runs import load_runs
from rejoule.traces.testing import random_trace

RUN = builders.run(builders.trace(2), None)
VALUES: dict[str, tuple[object, object]] = {
    "engine": ("sim", "vllm"),
    "profile": (None, "a100"),
    "max_num_seqs": (None, 8),
    "power_cap_w": (None, 300.0),
    "sm_clock_mhz": (None, 1200.0),
    "input_scale": (1.0, 2.0),
    "output_scale": (1.0, 2.0),
    "edge_set": ("barrier", "trigger"),
    "arrivals": ("users:2", "users:4"),
    "concurrency": (None, 4),
    "time_scale": (1.0, 0.5),
    "loops": (1, 4),
    "seed": (0, 1),
    "options": ({}, {"enforce_eager": True}),
    "policy": (None, "fcfs"),
    "policy_options": ({"w": 1}, {"w": 2}),
    "batching": ("continuous", "static"),
}


@pytest.mark.parametrize("knob", [f.name for f in fields(Configuration) if f.name != "policy_knows"])
def test_configurations_that_differ_look_different(knob: str) -> None:
    """Whatever knob it is, two of its values are told apart; without a policy, what one knows is no knob."""
    made = [replace(Configuration(), **{knob: value}) for value in VALUES[knob]]  # type: ignore[arg-type]
    runs = [replace(RUN, id=str(i), configuration=c) for i, c in enumerate(made)]
    assert len(set(named(runs).values())) == 2


def test_runs_are_read_in_an_order_that_people_expect(tmp_path: Path) -> None:
    """What is not set comes first, numbers go by their size, and off comes before on, whatever they were run in."""
    sweep: dict[str, list[Any]] = {
        "policy": ["fcfs", "none"],
        "output_scale": [10.0, 2.0],
        "options.enable_prefix_caching": [True, False],
    }
    rejoule.replay_traces({"t": random_trace(1)}, tmp_path / "runs", {}, sweep=sweep, progress=False)
    read = [run.configuration for run in load_runs(tmp_path / "runs").runs]
    scales, policies, caching = [2.0, 10.0], [None, "fcfs"], [False, True]
    assert [(c.output_scale, c.options["enable_prefix_caching"], c.policy) for c in read] == [
        (scale, cached, policy) for scale in scales for cached in caching for policy in policies
    ]
