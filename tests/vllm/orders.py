"""Small orders, worked out by hand, in which one rule of vLLM's scheduler decides: each by the rule that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.vllm.loads import Load, Planned

from rejoule.replay.sim.limits import Limits

BLOCK = 4


@dataclass(frozen=True)
class Order:
    """A load, and what each step does with it: tokens of who is in it; who is preempted; who waits once it is over."""

    load: Load
    steps: tuple[str, ...]


def in_words(steps: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Steps in the words of an `Order`."""
    return tuple(
        " | ".join(
            (
                " ".join(f"{name}{work[0]}" for name, work in sorted(step["batch"].items())),
                " ".join(f"{name}" for name in step["preempted"]),
                " ".join(step["waiting"]),
            )
        )
        for step in steps
    )


def call(name: str, prompt: int, output: int, **more: Any) -> Planned:
    """So many tokens asked and answered, in which no other call shares."""
    first = 100 * (ord(name) - ord("a"))
    ids = range(first, first + prompt + output)
    return Planned(name, tuple(ids[:prompt]), tuple(ids[prompt:]), **more)


def order(limits: Limits, blocks: int, calls: Sequence[Planned], *steps: str, caching: bool = True) -> Order:
    """``blocks`` are those that calls can have."""
    return Order(Load(limits, tuple(calls), BLOCK, 1 + blocks, caching), steps)


ROOMY = Limits(4, 64)
AHEAD = Limits(4, 64, async_scheduling=True)
CHUNKED = Limits(3, 64, long_prefill_token_threshold=8)
RANKED = Limits(2, 64, policy="priority")

ORDERS = {
    "nobody is admitted in a step that preempts, though a seat and blocks are free": order(
        AHEAD,
        3,
        # b is complete, which a step chosen ahead does not know; two of its blocks are more than a and c need.
        [call("a", 3, 6), call("b", 7, 2), call("c", 3, 1)],
        "a3 b7 |  | c",
        "a1 b1 |  | c",
        "a1 | b | c",
        "a1 c3 |  | ",
        "a1 |  | ",
        "a1 |  | ",
        " |  | ",
    ),
    "nobody is admitted in a step that preempts, though it ranks before whoever was preempted": order(
        RANKED,
        3,
        [call("a", 4, 6), call("b", 7, 3, priority=1), call("c", 3, 1, step=1)],
        "a4 b7 |  | ",
        "a1 | b | c b",
        "a1 c3 |  | b",
        "a1 |  | b",
        "a1 |  | b",
        "a1 |  | b",
        "b8 |  | ",
        "b1 |  | ",
    ),
    "the preempted go to the front, the last one before all, whenever they say that they arrived": order(
        CHUNKED,
        6,
        [call(name, *size, arrival_s=float(9 - i)) for i, (name, size) in enumerate(
            {"a": (24, 1), "b": (3, 4), "c": (3, 4), "d": (2, 2)}.items()
        )],
        "a8 b3 c3 |  | d",
        "a8 b1 c1 |  | d",
        "a8 | b c | b c d",
        "b5 c5 d2 |  | ",
        "b1 c1 d1 |  | ",
    ),
    "of equal priority, the one that says it arrived first is admitted first, and preempted last": order(
        RANKED,
        3,
        [call("a", 4, 3, arrival_s=2.0), call("b", 4, 3, arrival_s=1.0), call("c", 3, 1, arrival_s=0.0)],
        "b4 c3 |  | a",
        "a4 b1 |  | ",
        "b1 | a | a",
        "a1 |  | ",
        "a1 |  | ",
    ),
    "tokens of a call that is preempted for another one go to those behind": order(
        Limits(3, 9, policy="priority", long_prefill_token_threshold=4),
        5,
        [call("a", 16, 1, priority=1), call("b", 12, 1, step=1), call("c", 8, 1, step=1)],
        "a4 |  | ",
        "a4 b4 c1 |  | ",
        "b4 c4 | a | a",
        "b4 c3 |  | a",
        "a4 |  | ",
        "a4 |  | ",
        "a4 |  | ",
        "a4 |  | ",
    ),
    "without chunked prefill a prompt may take all of the budget": order(
        Limits(1, 8, enable_chunked_prefill=False),
        3,
        [call("a", 8, 1)],
        "a8 |  | ",
    ),
    "of a prompt that is cached as a whole, the last block is computed again": order(
        ROOMY,
        6,
        [call("a", 8, 1), Planned("b", call("a", 8, 1).prompt, (900,), after=("a",))],
        "a8 |  | ",
        "b4 |  | ",
    ),
    "of what has ended, the end is evicted first": order(
        ROOMY,
        3,
        [call("a", 8, 1), call("b", 7, 1, after=("a",)), Planned("c", call("a", 8, 1).prompt, (900,), after=("b",))],
        "a8 |  | ",
        "b7 |  | ",
        "c4 |  | ",
    ),
}  # fmt: skip
