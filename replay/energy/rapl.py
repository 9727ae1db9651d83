"""CPU and DRAM energy through RAPL, as Linux shows it under ``/sys/class/powercap``.

Counted are the ``package-*`` zones, and the ``dram`` zones, which lie outside their packages. Left out are ``core``
and ``uncore``, which are parts of a package; ``psys``, which holds the packages; and ``intel-rapl-mmio``, which counts
them a second time (https://docs.kernel.org/power/powercap/powercap.html). AMD's zones bear the same names; it has no
``dram``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

ROOT: Final = Path("/sys/class/powercap")
PERIOD_S: Final = 20.0
"""A counter of 65 kJ wraps after 65 s at 1 kW, the fastest of packages; ReJoule reads it three times as often."""
ALLOW: Final = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj /sys/class/powercap/intel-rapl:*:*/energy_uj"
REMEDY: Final = (
    f"{ALLOW} (until the next boot; any local user can then watch power closely enough to guess at secrets, which is "
    "why it is forbidden: CVE-2020-8694)"
)

Component = Literal["cpu", "dram"]


@dataclass(frozen=True, slots=True)
class Zone:
    """One domain with a counter of its own."""

    path: Path
    name: str
    component: Component
    range_uj: int
    """The counter starts again from 0 after this."""

    def read_uj(self) -> int:
        """Microjoules so far. Raises OSError if it may not be read."""
        return int((self.path / "energy_uj").read_text())


def find_zones(root: Path = ROOT) -> tuple[Zone, ...]:
    """The zones that make up the machine's CPUs and DRAM, each joule once; none in most virtual machines."""
    found = []
    for path in sorted(root.glob("intel-rapl:*")):
        with suppress(OSError, ValueError):  # a zone that vanished
            name = (path / "name").read_text().strip()
            component = _component(name)
            if component is not None:
                found.append(Zone(path, name, component, int((path / "max_energy_range_uj").read_text())))
    return tuple(found)


def readable(zones: Sequence[Zone]) -> bool:
    """Whether every counter may be read by this user."""
    try:
        for zone in zones:
            zone.read_uj()
    except OSError:
        return False
    return True


def open_rapl(root: Path = ROOT) -> list[RaplMeter]:
    """A meter for the CPUs, and one for the DRAM, where all their zones can be read."""
    zones = find_zones(root)
    components: tuple[Component, ...] = ("cpu", "dram")
    groups = {c: [z for z in zones if z.component == c] for c in components}
    return [RaplMeter(component, own) for component, own in groups.items() if own and readable(own)]


class RaplMeter:
    """Sums the zones of one component. While it is open, a task reads them often enough to see every wraparound."""

    source = "rapl"

    def __init__(self, component: Component, zones: Sequence[Zone], period_s: float = PERIOD_S) -> None:
        self.component = component
        self._zones = zones
        self._period_s = period_s
        self._last_uj: list[int] | None = None
        self._total_uj = 0
        self._watch: asyncio.Task[None] | None = None

    async def read_j(self) -> float | None:
        """Joules since the first read; ``None`` if a zone cannot be read any more."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_reading())
        return self._total_uj / 1e6 if self._read() else None

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    def _read(self) -> bool:
        try:
            now_uj = [zone.read_uj() for zone in self._zones]
        except (OSError, ValueError):
            return False
        if self._last_uj is not None:
            for zone, before, now in zip(self._zones, self._last_uj, now_uj, strict=True):
                # A counter holds 0 to its range, both included.
                self._total_uj += now - before if now >= before else now - before + zone.range_uj + 1
        self._last_uj = now_uj
        return True

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            self._read()


def _component(name: str) -> Component | None:
    if name.startswith("package-"):
        return "cpu"
    return "dram" if name == "dram" else None
