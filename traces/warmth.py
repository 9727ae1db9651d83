"""Whether trials found in a server's prefix cache what other runs had left there: those did less work, in less time.

A server that ReJoule cannot tell to forget, and that takes no ``cache_salt``, is cold for its first run alone. What a
run cannot have left itself is a violation in its certificate (``WARM``); the rest is seen by comparing trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from rejoule.traces.run import Run
from rejoule.traces.summary import total
from rejoule.traces.words import counted

WARM: Final = "the prefix cache was not cold"
"""How the violation begins."""
REMEDY: Final = "replay with --option salt=prompt, or start the server anew for each run"
APART: Final = 0.05
"""Cached tokens that are further apart than this share of the prompts' are not alike; requests that overtake each other
may make for less."""
SOONER: Final = 2.0
"""First tokens that come so many times sooner than in another trial speak for a warm cache."""


def is_warm(run: Run) -> bool:
    return any(violation.startswith(WARM) for violation in run.certificate.violations)


def may_be_warm(run: Run) -> bool:
    """Whether nothing kept earlier runs out of the server's prefix cache; older runs do not say."""
    return "cold_cache" in run.engine and run.engine["cold_cache"] is None


def unlike(a: Run, b: Run) -> str | None:
    """Why two runs found unequal amounts in the cache of a server that may have been warm; ``None`` if they did not."""
    found = [total(call.cached_tokens for call in run.calls) for run in (a, b)]
    prompts = total(call.prompt_tokens for call in (*a.calls, *b.calls))
    if not (may_be_warm(a) or may_be_warm(b)) or None in found or prompts is None:
        return None
    first, second = (count or 0 for count in found)
    if abs(first - second) <= APART * prompts / 2:
        return None
    return (
        f"the server cannot be told to forget, and its prefix cache held {first} tokens for one, {second} for the other"
    )


@dataclass(frozen=True, slots=True)
class Sorted:
    """The trials of one configuration by what they found in the cache."""

    alike: tuple[Run, ...]
    """Those that may be averaged: the coldest."""
    warmer: tuple[Run, ...] = ()


def coldest(trials: Sequence[Run]) -> Sorted:
    """Leaves out trials that found more in a server's cache than others did; of equally warm ones, none."""
    cold = [run for run in trials if not is_warm(run)] or list(trials)
    least = min(cold, key=lambda run: total(call.cached_tokens for call in run.calls) or 0)
    alike = [run for run in cold if unlike(run, least) is None]
    kept = {id(run) for run in alike}
    return Sorted(tuple(alike), tuple(run for run in trials if id(run) not in kept))


def warmth_notes(trials: Sequence[Run]) -> Iterator[str]:
    """What a reader of the trials of one configuration must know of the server's cache."""
    found = coldest(trials)
    if found.warmer:
        names = ", ".join(str(run.trial) for run in found.warmer)
        yield (
            f"{counted(len(found.warmer), 'trial')} left out of the means ({names}): the server's prefix cache was "
            f"warm, so they did less work; {REMEDY}"
        )
    warm = next((v for run in found.alike for v in run.certificate.violations if v.startswith(WARM)), None)
    if warm is not None:
        yield f"{warm}; {REMEDY}"
    if (times := _sooner(found.alike)) is not None:
        yield (
            f"first tokens came {times:.1f} times sooner in some trials than in others, and the server does not say "
            f"what its prefix cache held: it may have been warm; {REMEDY}"
        )


def _sooner(trials: Sequence[Run]) -> float | None:
    """By how much first tokens differ between trials whose cached tokens are not known."""
    blind = [run for run in trials if may_be_warm(run) and total(c.cached_tokens for c in run.calls) is None]
    waits = [
        median(seconds)
        for run in blind
        if (seconds := [c.first_token_s - c.sent_s for c in run.calls if c.first_token_s is not None])
    ]
    if len(waits) < 2 or min(waits) <= 0.0 or max(waits) < SOONER * min(waits):
        return None
    return max(waits) / min(waits)
