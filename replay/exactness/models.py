"""Which of a server's models answers a recorded call: its own, where the server has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rejoule.traces import RejouleError, Trace
from rejoule.traces.model import Call
from rejoule.traces.work import altered, left_out

SIMULATED: Final = "the simulated model"
"""What answers for all on the simulated engine."""
OPTION: Final = "one_model"
"""Lets one model answer the calls of several."""


@dataclass(frozen=True, slots=True)
class Models:
    """The models that a server lists, its own choice first."""

    served: tuple[str, ...]
    several: bool = False
    """Whether the trace asks for more than one. Of a trace with one, any model may do the work."""

    def answering(self, call: Call) -> str:
        """The model that a call is sent to."""
        name = call.request.get("model")
        return name if isinstance(name, str) and name in self.served else self.served[0]

    def altered(self, call: Call) -> tuple[str, ...]:
        """In what a call is not just the recorded one, its model included."""
        name = call.request.get("model")
        if not self.several or name in self.served:
            return altered(call)
        return (*altered(call), f"answered by {self.served[0]}, recorded from {name}")


def models_for(trace: Trace, served: Sequence[str], options: Mapping[str, Any]) -> Models:
    """The models for a trace's calls.

    Raises RejouleError where calls of several models would be answered by one, and nobody asked for that.
    """
    asked = recorded(trace)
    missing = [name for name in asked if name not in served]
    if len(asked) > 1 and missing and options.get(OPTION) is not True:
        raise RejouleError(
            f"the trace has calls of {len(asked)} models, and {served[0]} alone is no replay of {', '.join(missing)}",
            f"replay on a server that lists all of them, or let one answer for the others: --option {OPTION}=true",
        )
    return Models(tuple(served), len(asked) > 1)


def recorded(trace: Trace) -> tuple[str, ...]:
    """The models that the calls of a replay asked for, in the order in which they first did."""
    names = (call.request.get("model") for call in trace.calls if left_out(call) is None)
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))
