"""What joules by node rest on, and why some are withheld."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from rejoule.analysis.attribution import Attribution, Method

_BASES: Final[Mapping[Method, str]] = {
    "step energies": "the energy of every engine step",
    "step readings": "the engine's steps and the energy counter's readings",
    "step times": "the engine's steps, the total spread over them by time",
    "client readings": "the client's times and the energy counter's readings, since no engine step was recorded",
    "client times": "the client's times, since no engine step was recorded",
}


def basis(method: Method) -> str:
    """What joules by node and phase were attributed from, in words."""
    return f"attributed from {_BASES[method]}"


MISSES: Final[Mapping[Method, tuple[float, float]]] = {
    "step times": (-0.57, 0.16),
    "client readings": (-0.29, 0.36),
    "client times": (-0.57, 0.60),
}
"""By how much joules of nodes were off, as means over runs of a load: the least and the most of
``python -m benchmarks.judge``."""


def caution(method: Method) -> str | None:
    """How far joules by node may be off where nothing tells of a run how far they are."""
    if method not in MISSES:
        return None
    low, high = MISSES[method]
    return (
        f"joules by node have no ± when {basis(method)}: on made-up runs with known joules, nodes were off by "
        f"{low:+.0%} to {high:+.0%}"
    )


UNSEEN: Final = "are withheld; repeat with longer runs, or see them anyway with --force"
"""What happens to joules that rest on a poor fit, and what to do."""


def withheld(found: Iterable[Attribution | None]) -> str | None:
    """The first reason not to read these joules by node."""
    return next((a.withheld for a in found if a is not None and a.withheld), None)
