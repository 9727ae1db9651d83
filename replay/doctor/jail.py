"""The jail in which workloads run the code that a model wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rejoule.replay.doctor.finding import Finding
from rejoule.traces import RejouleError


class Jail(Protocol):
    """What was found by trying it."""

    @property
    def parts(self) -> Mapping[str, bool | None]:
        """Whether each can be had, by name; ``None`` where it was not reached."""
        ...

    @property
    def trouble(self) -> RejouleError | None: ...


def jail_finding(jail: Jail) -> Finding:
    """Whether `rejoule record agentic` and composite can run code, and which part of the jail is missing."""
    had = [name for name, there in jail.parts.items() if there]
    facts = {"parts": dict(jail.parts)}
    if jail.trouble is None:
        return Finding("jail for code", True, f"workloads can jail code: {', '.join(had)}", facts=facts)
    not_reached = [name for name, there in jail.parts.items() if there is None]
    found = jail.trouble.what
    found += f"; had before: {', '.join(had)}" if had else ""
    found += f"; not reached: {', '.join(not_reached)}" if not_reached else ""
    return Finding("jail for code", False, found, jail.trouble.remedy, facts)
