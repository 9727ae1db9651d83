"""Causes in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rejoule.analysis.causes.split import CauseName

WORDS: Final[Mapping[CauseName, tuple[str, str, str]]] = {
    "prefill": (
        "prompts computed, not cached",
        "fewer prompt tokens computed",
        "more prompt tokens computed, fewer found in the cache",
    ),
    "prompts": ("length of the prompts", "shorter prompts", "longer prompts"),
    "outputs": ("length of the outputs", "shorter outputs", "longer outputs"),
    "attention": ("attention over contexts", "attention over shorter contexts", "attention over longer contexts"),
    "batching": ("filling of steps", "fuller steps", "emptier steps"),
    "preemption": ("work done again", "less work done again after preemption", "work done again after preemption"),
    "clocks": ("clocks and caps",) * 3,
    "engine": ("what a step costs",) * 3,
    "idle": ("idle time", "less idle time", "more idle time"),
    "tool wait": ("waiting for tools", "less waiting for tools", "more waiting for tools"),
    "left": ("what is left",) * 3,
}
"""Each in a table, and where it lowers and where it raises the joules."""


def name_of(names: Sequence[CauseName]) -> str:
    """Of causes that cannot be told apart: all of them."""
    if len(names) >= len(WORDS) - 2:
        return "work of any kind" if "idle" not in names else "work of any kind and idle time"
    return " + ".join(WORDS[name][0] for name in names)


def said(names: Sequence[CauseName], joules: float) -> str:
    """With its direction, where it is one cause."""
    return WORDS[names[0]][1 if joules < 0.0 else 2] if len(names) == 1 else name_of(names)
