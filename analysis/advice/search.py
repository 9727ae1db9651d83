"""Which cells to run next: those that may well take fewer joules than the best so far, and keep every objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, inf, isfinite, pi, sqrt
from typing import Final

from rejoule.analysis.advice.known import Known
from rejoule.analysis.advice.matrix import Key, Matrix
from rejoule.analysis.advice.objective import Objective
from rejoule.analysis.advice.surface import Guess, Place, Surface, fitted
from rejoule.traces.student import normal_cdf

WORTH: Final = 0.002
"""Expected saving, relative, for which a cell is not worth running."""
OPEN: Final = 0.01
"""A chance to be better than the best for which a cell beside it is worth running."""
NEAR: Final = 0.02
ROOM: Final = 0.03
"""Standard errors of joules and of other figures, as logarithms, that guesses beside the best have at least."""
SLIM: Final = 1e-9
"""A chance to keep all objectives below which a cell is not tried for that."""


@dataclass(frozen=True)
class State:
    """What is known of every figure."""

    joules: Known
    of: tuple[tuple[Objective, Known], ...]


def next_cells(plan: Matrix, state: State, most: int) -> tuple[Key, ...]:
    """At most ``most`` cells of which nothing is known, the most promising first; none if none is worth it.

    Expected improvement by the chance to keep the objectives (Schonlau, Welch and Jones, IMS Lecture Notes 34, 1998);
    where nothing keeps them yet, the greatest chance to. Where that is too little, what differs from the best in one
    knob and may be better. Before all that, each knob of which one value alone was run is turned in the best cell; with
    too few cells to guess from even then, those farthest from all that were run. Each next one is chosen as if the ones
    before had come out as guessed. None, too, where what a replay takes over as recorded misses an objective: no cell
    changes that.
    """
    chosen: list[Key] = []
    if any(held.everywhere is not None and not _right(objective, held.everywhere) for objective, held in state.of):
        return ()
    while len(chosen) < most:
        left = [key for key in plan.never_run if key not in chosen]
        if not left:
            break
        key = _turned(plan, state, chosen) or _farthest(plan, [*plan.ran, *chosen], left)
        if _seen(plan, state, chosen) and state.joules.surface is not None:
            found = _promising(plan, state, state.joules.surface, left)
            if found is None:
                break
            key = found
        chosen.append(key)
        state = _believing(plan, state, key)
    return tuple(chosen)


def _seen(plan: Matrix, state: State, chosen: Sequence[Key]) -> bool:
    """Whether two values of every knob were run or are to be."""
    return all(len({key[k] for key in (*plan.ran, *chosen)}) > 1 for k in range(len(plan.names)))


def _turned(plan: Matrix, state: State, chosen: Sequence[Key]) -> Key | None:
    """The best cell with a knob turned of which one value alone was run, to the middle of its others."""
    there = [*plan.ran, *chosen]
    start = min(state.joules.guesses, key=lambda key: state.joules.guesses[key].log, default=None)
    if start is None:
        return None
    for k, levels in enumerate(plan.levels):
        others = [value for value in levels if value != start[k]]
        turned = (*start[:k], others[len(others) // 2], *start[k + 1 :]) if others else start
        if turned not in there and len({key[k] for key in there}) == 1:
            return turned
    return None


def _promising(plan: Matrix, state: State, joules: Surface, left: Sequence[Key]) -> Key | None:
    places = {key: plan.place(key) for key in left}
    chance = {key: _chance(state, place) for key, place in places.items()}
    best = _best(state)
    if best is None:
        likeliest = max(left, key=lambda key: chance[key])
        return likeliest if chance[likeliest] >= SLIM else None
    least = state.joules.guesses[best].log
    worth = {key: chance[key] * _improvement(least, joules.at(place)) for key, place in places.items()}
    most = max(left, key=lambda key: worth[key])
    if worth[most] >= WORTH:
        return most
    beside = [key for key in left if sum(a != b for a, b in zip(key, best, strict=True)) == 1]
    better = {key: _chance(state, places[key], ROOM) * _below(least, joules.at(places[key]), NEAR) for key in beside}
    likeliest = max(beside, key=lambda key: better[key], default=most)
    return likeliest if better.get(likeliest, 0.0) >= OPEN else None


def _best(state: State) -> Key | None:
    """The least joules among cells that are known and keep everything, by their values."""
    found = {k: guess.log for k, guess in state.joules.guesses.items() if isfinite(guess.log) and _keeps(state, k)}
    return min(found, key=lambda key: found[key], default=None)


def _keeps(state: State, key: Key) -> bool:
    return all((guess := held.told(key)) is not None and _right(objective, guess) for objective, held in state.of)


def _right(objective: Objective, guess: Guess) -> bool:
    """By its value."""
    return objective.room(guess.log) >= 0.0


def _chance(state: State, place: Place, error: float = 0.0) -> float:
    """To keep all objectives, with a standard error of at least so much."""
    chance = 1.0
    for objective, known in state.of:
        if known.surface is not None:
            guess = known.surface.at(place)
            chance *= normal_cdf(objective.room(guess.log) / max(error, guess.error))
    return chance


def _below(least: float, guess: Guess, error: float) -> float:
    """The chance of it, with a standard error of at least so much."""
    return normal_cdf((least - guess.log) / max(error, guess.error))


def _improvement(best: float, guess: Guess) -> float:
    """Expected, of a logarithm below ``best``."""
    z = (best - guess.log) / guess.error
    return (best - guess.log) * normal_cdf(z) + guess.error * exp(-z * z / 2.0) / sqrt(2.0 * pi)


def _farthest(plan: Matrix, known: Sequence[Key], left: Sequence[Key]) -> Key:
    def apart(key: Key) -> float:
        here = plan.place(key)
        return min((_distance(here, plan.place(other)) for other in known), default=inf)

    return max(left, key=apart)


def _distance(a: Sequence[float | str], b: Sequence[float | str]) -> float:
    return sqrt(
        sum(
            float(x != y) if isinstance(x, str) or isinstance(y, str) else (x - y) ** 2
            for x, y in zip(a, b, strict=True)
        )
    )


def _believing(plan: Matrix, state: State, key: Key) -> State:
    def believed(known: Known) -> Known:
        if known.surface is None:
            return known
        guess, slopes = known.surface.at(plan.place(key)), known.surface.slopes
        guesses = {**known.guesses, key: guess}
        logs = {k: g.log for k, g in guesses.items() if isfinite(g.log)}
        surface = fitted([plan.place(k) for k in logs], list(logs.values()), slopes)
        return replace(known, guesses=guesses, surface=surface)

    return State(believed(state.joules), tuple((objective, believed(known)) for objective, known in state.of))
