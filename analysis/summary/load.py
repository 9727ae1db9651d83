"""What was asked of the server, and when: configurations are better or worse than others under one load alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from rejoule.traces.run import Configuration, knobs

T = TypeVar("T")
LOAD: Final = ("input_scale", "output_scale", "arrivals", "time_scale", "loops")
"""Knobs that nobody would set to save joules: less work takes less, and that is no answer."""
_USUAL: Final = tuple(knobs(Configuration())[name] for name in LOAD)


def under_one_load(found: Sequence[T], settings: Callable[[T], Mapping[str, Any]]) -> tuple[T, ...]:
    """Those under the load that most of them had, before others that of the recording; ``settings`` are all knobs."""
    by_load: dict[tuple[Any, ...], list[T]] = {}
    for one in found:
        by_load.setdefault(_load(settings(one)), []).append(one)
    return tuple(max(by_load.items(), key=lambda held: (len(held[1]), held[0] == _USUAL))[1]) if by_load else ()


def other_loads(found: Sequence[T], settings: Callable[[T], Mapping[str, Any]]) -> Iterator[str]:
    """That best and worst are of some of them alone, where there were several loads."""
    kept = under_one_load(found, settings)
    if len(kept) < len(found):
        apart = [name for name in LOAD if len({settings(one)[name] for one in found}) > 1]
        held = ", ".join(f"{name}={settings(kept[0])[name]}" for name in apart)
        yield f"best and worst are of the {len(kept)} configurations with {held}: the others had another load"


def _load(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(settings[name] for name in LOAD)
