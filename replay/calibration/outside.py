"""What cells of the grid show without a look into the engine: to a client, and to the GPUs' sensors.

A measured and a simulated run are read by the same rule, so that one can be fitted to the other. Cells of one kind are
taken together, and are known by their kind; prompts of a cell by their size among its sizes, as servers count the
tokens of one prompt differently. Waits are means, since a caller waits for the mean.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import fsum
from statistics import fmean, median
from typing import Final

import numpy as np

from rejoule.replay.calibration.grid import kind_of
from rejoule.replay.calibration.observations import STALLED
from rejoule.traces.run import CallResult, Run

SET_UP: Final = ("warm-up", "prime-")
"""Cells that fill the cache or warm the server, and show nothing else."""
BURST: Final = "burst-"
SMEARED_S: Final = 0.15
"""By so much readings may say what was drawn before or after: counters tick ten times a second, on an H200."""
LONG: Final = 20
"""Tokens of an answer from which on it counts as decoding."""
DECODING: Final = "decode-"
CROWDED: Final = (DECODING, "mixed-", "joining")
TOGETHER: Final = 0.9
"""Share of the time in which all decode."""
FIRST: Final = "first token"
BETWEEN: Final = "between tokens"
EACH: Final = "a prompt"
WATTS: Final = "power"
IDLE: Final = "idle"


@dataclass(frozen=True, slots=True, order=True)
class Shown:
    """What is seen: in seconds, or of `WATTS` in watts."""

    what: str
    kind: str
    size: int = 0
    """Which of the cell's prompt sizes, from the smallest."""


def shown(run: Run, cells: Collection[str] | None = None, *, crowds: bool = False) -> dict[Shown, float]:
    """Means over all cells of a kind, of those named or of all. Power is missing where none was sampled.

    Of ``crowds`` that trickled in, and so did not decode together, the time between tokens is told only if asked for.
    """
    calls: dict[str, list[CallResult]] = defaultdict(list)
    for call in run.calls:
        if call.error is None:
            calls[call.node].append(call)
    alike: dict[str, list[str]] = defaultdict(list)
    for name in calls:
        if not name.startswith(SET_UP) and (cells is None or name in cells):
            alike[kind_of(name)].append(name)
    found: dict[Shown, float] = {}
    watts = _Watts(run)
    for kind, names in alike.items():
        loads = [_loaded(calls[name]) for name in names]
        if kind.startswith(BURST):
            prompts = sum(len(calls[name]) - 1 for name in names)
            if prompts:
                found[Shown(EACH, kind)] = fsum(end_s - start_s for start_s, end_s in loads) / prompts
        else:
            found |= _waits(kind, [call for name in names for call in calls[name]], crowds)
        power_w = watts.within(loads)
        if power_w is not None:
            found[Shown(WATTS, kind)] = power_w
    ordered = sorted((min(c.sent_s for c in own), max(c.end_s for c in own)) for own in calls.values())
    idle_w = watts.within([(a[1], b[0]) for a, b in pairwise([(0.0, 0.0), *ordered, (run.makespan_s, 0.0)])])
    if idle_w is not None:
        found[Shown(WATTS, IDLE)] = idle_w
    return {what: value for what, value in found.items() if value > 0}


def at_once(run: Run) -> tuple[int, int]:
    """How many calls of a cell that decodes were answered at one time, and how many were meant to be; at most."""
    seen = asked = 0
    calls: dict[str, list[CallResult]] = defaultdict(list)
    for call in run.calls:
        if call.node.startswith(DECODING) and call.error is None:
            calls[call.node].append(call)
    for own in calls.values():
        ends = sorted(call.end_s for call in own)
        begun = sorted(map(_first_s, own))
        seen = max(seen, *(n + 1 - bisect_right(ends, at_s) for n, at_s in enumerate(begun)))
        asked = max(asked, len(own))
    return seen, asked


def _first_s(call: CallResult) -> float:
    return call.end_s if call.first_token_s is None else call.first_token_s


def _loaded(calls: Sequence[CallResult]) -> tuple[float, float]:
    """When a cell's load was what it is meant to be: while all decode, or from its first answer to its last."""
    decoding = [c for c in calls if (c.output_tokens or 0) > 1]
    if len(decoding) == len(calls):
        return max(map(_first_s, calls)), min(c.end_s for c in calls)
    return min(map(_first_s, calls)), max(c.end_s for c in calls)


def _waits(kind: str, calls: Sequence[CallResult], crowds: bool) -> dict[Shown, float]:
    """By size of the prompt."""
    found: dict[Shown, float] = {}
    for number, size in enumerate(sorted({call.prompt_tokens or 0 for call in calls})):
        own = [call for call in calls if (call.prompt_tokens or 0) == size]
        long = [c for c in own if (c.output_tokens or 0) >= LONG]
        if len(long) < 2 or not kind.startswith(CROWDED):
            waits = [_first_s(c) - c.sent_s for c in own]
            kept = [wait for wait in waits if wait <= STALLED * median(waits)]
            found[Shown(FIRST, kind, number)] = fmean(kept)
        together_s = min(c.end_s for c in long) - max(map(_first_s, long)) if long else 0.0
        if long and (crowds or together_s >= TOGETHER * (max(c.end_s for c in long) - min(map(_first_s, long)))):
            tokens = sum((c.output_tokens or 0) - 1 for c in long)
            found[Shown(BETWEEN, kind, number)] = fsum(c.end_s - _first_s(c) for c in long) / tokens
    return found


class _Watts:
    """Mean power over stretches, from the sensors' readings, or of a simulated run from its steps."""

    def __init__(self, run: Run) -> None:
        pieces = run.readings or [step for step in run.steps or () if step.energy_j is not None]
        self._at_s = np.array([*(p.start_s for p in pieces[:1]), *(p.end_s for p in pieces)])
        self._joules = np.cumsum([0.0, *(p.energy_j or 0.0 for p in pieces)])

    def within(self, stretches: Sequence[tuple[float, float]]) -> float | None:
        """Without the edges, where readings are of what is beside them; ``None`` if that leaves nothing."""
        if len(self._at_s) < 2 or not stretches:
            return None
        starts, ends = np.array(stretches).T + np.array([[SMEARED_S], [-SMEARED_S]])
        inside = (starts >= self._at_s[0]) & (ends <= self._at_s[-1]) & (starts < ends)
        if not inside.any():
            return None
        starts, ends = starts[inside], ends[inside]
        joules = np.interp(ends, self._at_s, self._joules) - np.interp(starts, self._at_s, self._joules)
        return float(joules.sum() / (ends - starts).sum())
