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


UNSEEN: Final = "are withheld; repeat with longer runs, or see them anyway with --force"
"""What happens to joules that rest on a poor fit, and what to do."""


def withheld(found: Iterable[Attribution | None]) -> str | None:
    """The first reason not to read these joules by node."""
    return next((a.withheld for a in found if a is not None and a.withheld), None)
