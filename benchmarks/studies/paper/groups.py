"""What is replayed: one group of runs a question, each a run folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

PROFILE: Final = "a100-40gb-llama-2-7b"
USERS: Final = 16
BATCHES: Final = (1, 2, 4, 8, 16)
"""The paper's; what lies beyond is ours."""
BEYOND: Final = (32, 64)
CAPS_W: Final = (100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0)
MANY: Final = ("chain", "map-reduce", "interactive", "interactive-apart", "agentic", "composite")


@dataclass(frozen=True)
class Group:
    """Traces by load, the knobs that stay, and those that are swept."""

    name: str
    question: str
    loads: Sequence[str]
    sweep: Mapping[str, Sequence[Any]]
    knobs: Mapping[str, Any] = field(default_factory=dict)


GROUPS: Final = (
    Group(
        "batch-and-cap",
        "batch size and power cap, with 16 users",
        MANY,
        {"max_num_seqs": (*BATCHES, *BEYOND), "power_cap_w": CAPS_W},
    ),
    Group(
        "policies",
        "who goes first, under caps, where 16 users share 8 seats",
        MANY,
        {
            "policy": ("fcfs", "workflow-fcfs", "shortest-path", "critical-path", "least-slack", "las", "parrot"),
            "power_cap_w": (100.0, 200.0, 400.0),
        },
        {"max_num_seqs": 8, "concurrency": 8},
    ),
    Group(
        "users",
        "how many users there are, and batch size",
        MANY,
        {
            "arrivals": tuple(f"users:{count}" for count in (1, 2, 4, 8, 16, 32, 48)),
            "max_num_seqs": (1, 16, 64),
        },
    ),
    Group(
        "engine",
        "continuous or static batching, with the prefix cache or without, short and long outputs",
        MANY,
        {
            "batching": ("static", "continuous"),
            "options.enable_prefix_caching": (False, True),
            "output_scale": (0.5, 1.0, 4.0),
        },
        {"max_num_seqs": 16},
    ),
    Group(
        "outputs",
        "output length",
        MANY,
        {"output_scale": (0.5, 1.0, 2.0, 4.0), "max_num_seqs": (1, 4, 16)},
    ),
    Group(
        "inputs",
        "input length, within the model's window of 4,096 tokens",
        ("chain", "map-reduce"),
        {"input_scale": (0.5, 1.0, 2.0, 4.0), "max_num_seqs": BATCHES},
    ),
    Group(
        "no-waiting",
        "without thinking and tool times, which leave the GPU idle",
        MANY,
        {"time_scale": (0.0, 1.0), "max_num_seqs": BATCHES},
    ),
    Group("alone", "one chain, alone", ("one-chain",), {"max_num_seqs": BATCHES}, {"arrivals": "users:1"}),
    Group(
        "as-recorded",
        "the kept workflows as they are, all at once",
        (),
        {"max_num_seqs": BATCHES},
        {"arrivals": "burst"},
    ),
)
"""``as-recorded`` has the kept traces for loads."""
