"""What a run says of limits that it did not run under.

A limit that a run never reached could have stood anywhere above what was reached: the run would have been the same.
What a lower one would cost can be told beforehand, by how often the run went beyond it.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf, log
from typing import Any, Final

from rejoule.traces.figures import gpu_count
from rejoule.traces.run import CONTINUOUS, OPTION, Run, Step

SEATS: Final = "max_num_seqs"
CAP: Final = "power_cap_w"
_IN_FLIGHT: Final = "concurrency"
_BUDGET: Final = "max_num_batched_tokens"


def same_with(run: Run, knob: str, values: Sequence[Any]) -> Mapping[Any, str]:
    """Those of other values of a knob with which the run would have been the same, and why."""
    rule = _RULES.get(knob)
    told = [value for value in values if value is not None]
    return {} if rule is None or not told else rule(run, told)


def most_under_way(run: Run) -> int:
    """Calls that were sent and had not ended, at one time, at most."""
    return max((count for _, count in _under_way(run)), default=0)


def longer(run: Run, seats: float) -> float:
    """By what the time with calls under way would be longer in so many seats, were each seat served as fast as it was.

    ``seats`` may be ``inf``. Below 1 where the run itself lacked seats.
    """
    own = _own_seats(run) or inf
    busy = stretched = 0.0
    for took_s, count in _under_way(run):
        busy += took_s
        stretched += took_s * min(count, own) / min(count, seats)
    return stretched / busy if busy else 1.0


def pressed(run: Run, cap_w: float) -> float | None:
    """The logarithm of a GPU's power over a cap where it was above it, mean over time; ``None`` if it is not known."""
    gpus = gpu_count(run)
    drawn = list(_drawn(run))
    watched_s = sum(took_s for took_s, _ in drawn)
    if gpus is None or not watched_s:
        return None
    return sum(took_s * max(0.0, log(watts / gpus / cap_w)) for took_s, watts in drawn) / watched_s


def _under_way(run: Run) -> Iterator[tuple[float, int]]:
    """Stretches of time with how many calls were under way, at least one."""
    changes = sorted([(call.sent_s, 1) for call in run.calls] + [(call.end_s, -1) for call in run.calls])
    count, since_s = 0, 0.0
    for at_s, change in changes:
        if count:
            yield at_s - since_s, count
        count, since_s = count + change, at_s


def _drawn(run: Run) -> Iterator[tuple[float, float]]:
    """Seconds and watts of all GPUs: of steps with work, or, where the engine does not know them, of readings."""
    told = [s for s in run.steps or () if s.energy_j and not s.idle]
    for one in told or run.readings or ():
        took_s = one.end_s - one.start_s
        if took_s > 0.0 and one.energy_j:
            yield took_s, one.energy_j / took_s


def _seats(run: Run, values: Sequence[int]) -> Mapping[int, str]:
    """CUDA graphs are captured for steps of up to as many tokens as seats, or twice as many: larger steps cost more."""
    own = _own_seats(run)
    if own is None or run.steps is None or not _unheld(run):
        return {}
    most, sizes = most_under_way(run), sorted({_tokens(step) for step in run.steps})
    budget = run.engine.get(_BUDGET) or inf

    def same(value: int) -> bool:
        few, many = sorted((own, value))
        return most <= few and many <= budget and bisect(sizes, few) == bisect(sizes, 2 * many)

    return {value: f"no more than {_calls(most)} under way at once" for value in values if same(value)}


def _budget(run: Run, values: Sequence[int]) -> Mapping[int, str]:
    own = run.engine.get(_BUDGET)
    if own is None or run.steps is None or not _unheld(run) or run.configuration.options.get(_CHUNKS) is False:
        return {}
    most = max(map(_tokens, run.steps), default=0)
    return {value: f"no step had more than {most:,} tokens" for value in values if most < min(own, value)}


def _concurrency(run: Run, values: Sequence[int]) -> Mapping[int, str]:
    most = most_under_way(run)
    if most >= (run.configuration.concurrency or inf) or not _unheld(run):
        return {}
    return {value: f"no more than {_calls(most)} under way at once" for value in values if most <= value}


def _cap(run: Run, values: Sequence[float]) -> Mapping[float, str]:
    own = run.power_cap.in_force_w
    if own is None or run.power_cap.bound_fraction != 0.0:
        return {}
    return {value: "the power cap never held the clock down" for value in values if value >= own}


_CHUNKS: Final = "enable_chunked_prefill"
_RULES: Final[Mapping[str, Callable[[Run, Sequence[Any]], Mapping[Any, str]]]] = {
    SEATS: _seats,
    CAP: _cap,
    _IN_FLIGHT: _concurrency,
    OPTION + _BUDGET: _budget,
}


def _own_seats(run: Run) -> int | None:
    return run.configuration.max_num_seqs or run.engine.get(SEATS)


def _unheld(run: Run) -> bool:
    """Whether nothing but these limits decided when calls were sent, and nothing was thrown out again."""
    plain = run.configuration.policy is None and run.configuration.batching == CONTINUOUS
    return plain and not any(step.preempted for step in run.steps or ())


def _tokens(step: Step) -> int:
    """Of each engine step in it; those that only decode have one a call."""
    return sum(computed for _, computed, _ in step.prefill) + len(step.decode)


def _calls(count: int) -> str:
    return f"{count} call was" if count == 1 else f"{count} calls were"
