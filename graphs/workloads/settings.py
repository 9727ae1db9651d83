"""The sizes of a workload: declared once, with their meaning, and parsed from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from rejoule.traces.errors import RejouleError

if TYPE_CHECKING:
    from rejoule.graphs.workloads.workload import Workload

SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def setting(default: Any, meaning: str, *, choices: tuple[str, ...] = (), least: float | None = None) -> Any:
    """A field of a settings class; ``meaning`` is what its help says. By default counts start at 1, seconds at 0."""
    if least is None:
        least = 1 if isinstance(default, int) else 0
    return field(default=default, metadata={"meaning": meaning, "choices": choices, "least": least})


@dataclass(frozen=True)
class Settings:
    """Sizes that hold what they promise: numbers are large enough, words are among their choices."""

    def __post_init__(self) -> None:
        for spec in fields(self):
            value, choices, least = getattr(self, spec.name), spec.metadata["choices"], spec.metadata["least"]
            if choices and value not in choices:
                raise RejouleError(f"{spec.name} cannot be {value!r}", f"choose one of {', '.join(choices)}")
            if isinstance(value, int | float) and not isinstance(value, bool) and not least <= value < float("inf"):
                raise RejouleError(f"{spec.name} cannot be {value}", f"give a number of at least {least}")

    def settled(self) -> Self:
        """What these come to on this machine. Raises RejouleError where it lacks what they need."""
        return self

    def remarks(self) -> tuple[str, ...]:
        """What must be said before recording with these on this machine, a sentence each."""
        return ()


def settings_from(workload: Workload, values: Mapping[str, str]) -> Any:
    """The workload's settings, with ``values`` in place of the defaults."""
    defaults = {spec.name: spec.default for spec in fields(workload.settings)}
    for name in values:
        if name not in defaults:
            raise RejouleError(f"{workload.name} has no setting {name!r}", f"choose one of {', '.join(defaults)}")
    return workload.settings(**{name: _parse(name, text, defaults[name]) for name, text in values.items()})


def _parse(name: str, text: str, default: Any) -> Any:
    kind = type(default)
    try:
        return SWITCH[text.strip().lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise RejouleError(f"{name} cannot be {text!r}", f"give {wanted}") from None
