"""What the joules of runs rest on, and what they do not show, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rejoule.analysis.attribution import Method, method_of
from rejoule.traces.run import Run

_BASES: Final[Mapping[Method, str]] = {
    "step times": "The meter reads whole runs here: their joules are spread over the engine's steps by time, idle ones "
    "included.",
    "step readings": "The energy counter ticks every tenth of a second or so: costs are fitted to stretches of half a "
    "second, and the engine's steps share what was measured in each.",
    "client readings": "Where the engine's steps were not recorded, the client's times stand in: prefill until the "
    "first token, decode after it. Costs are fitted to stretches of half a second of the energy counter.",
    "client times": "Where the engine's steps were not recorded, the client's times stand in: prefill until the first "
    "token, decode after it, and joules by time.",
}


def limits(runs: Sequence[Run]) -> list[str]:
    """What a reader of joules by node, and of joules under caps, has to know of them."""
    lines = [
        "A node's joules: every engine step costs a fixed amount, shared equally by the calls in its batch, and "
        "amounts for tokens decoded, prompt tokens computed and the context that both attend to, owed by their own "
        "call. The coefficients are fitted to the run itself, and what they say is scaled to the energy measured, so "
        "that nodes and idle add up to the total. ± is half of a 95 % interval.",
    ]
    lines += [_BASES[m] for m in dict.fromkeys(map(method_of, runs)) if m in _BASES]
    if not all(run.measured for run in runs):
        lines.append(
            "Modelled joules come from the simulator's profile, not from a meter. They are for comparing "
            "configurations with each other, not with measured joules."
        )
    capped = [run for run in runs if run.power_cap.requested_w is not None]
    if any(not run.measured for run in capped):
        lines.append(
            "What power caps do is modelled where joules are: no real GPU was capped to check the profiles that "
            "ReJoule ships."
        )
    return lines
