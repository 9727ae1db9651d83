"""The table of runs."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from tests.analysis import builders

from rejoule.replay.cli.tables import named
from rejoule.traces.run import Configuration

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
