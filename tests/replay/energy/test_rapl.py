"""CPU and DRAM energy, read from made trees of ``/sys/class/powercap``."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.energy.rapl import RaplMeter, find_zones, open_rapl, readable

RANGE_UJ = 262_143_328_850

TWO_SOCKETS = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
    "intel-rapl:1": "package-1",
    "intel-rapl:1:0": "uncore",
    "intel-rapl:1:1": "dram",
    "intel-rapl:2": "psys",
    "intel-rapl-mmio:0": "package-0",
}
AMD = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core"}


def tree(root: Path, zones: dict[str, str], range_uj: int = RANGE_UJ) -> Path:
    (root / "intel-rapl").mkdir(parents=True)
    for folder, name in zones.items():
        (root / folder).mkdir()
        (root / folder / "name").write_text(f"{name}\n")
        (root / folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        count(root, folder, 0)
    return root


def count(root: Path, folder: str, energy_uj: int) -> None:
    (root / folder / "energy_uj").write_text(f"{energy_uj}\n")


async def spent_j(root: Path, uj: dict[str, int]) -> dict[str, float | None]:
    """What the meters say once every zone has counted what is given."""
    meters = open_rapl(root)
    before = [await meter.read_j() for meter in meters]
    for folder, energy_uj in uj.items():
        count(root, folder, energy_uj)
    after = [await meter.read_j() for meter in meters]
    for meter in meters:
        assert meter.source == "rapl"
        await meter.close()
    pairs = zip(meters, before, after, strict=True)
    return {m.component: None if a is None or b is None else b - a for m, a, b in pairs}


def test_two_sockets_count_each_joule_once(tmp_path: Path) -> None:
    """Packages and separate DRAM are summed; parts of them, psys and the mmio duplicates are left out."""
    root = tree(tmp_path / "p", TWO_SOCKETS)
    uj = {folder: 10**6 * 2**i for i, folder in enumerate(TWO_SOCKETS)}
    assert asyncio.run(spent_j(root, uj)) == {"cpu": 1.0 + 8.0, "dram": 4.0 + 32.0}


def test_amd_has_no_dram(tmp_path: Path) -> None:
    root = tree(tmp_path / "p", AMD)
    assert asyncio.run(spent_j(root, {"intel-rapl:0": 5_000_000, "intel-rapl:0:0": 1_000_000})) == {"cpu": 5.0}


def test_a_virtual_machine_has_none(tmp_path: Path) -> None:
    assert open_rapl(tree(tmp_path / "p", {})) == []
    assert open_rapl(tmp_path / "nowhere") == []


def test_counters_that_cannot_be_read_are_not_metered(tmp_path: Path) -> None:
    """One package that cannot be read leaves the CPUs unmeasured, rather than half measured."""
    root = tree(tmp_path / "p", TWO_SOCKETS)
    (root / "intel-rapl:1" / "energy_uj").unlink()
    assert [meter.component for meter in open_rapl(root)] == ["dram"]


def test_a_counter_that_vanishes_is_missing(tmp_path: Path) -> None:
    """Zones that end while they are metered give no number, and are told from those that can be read."""
    root = tree(tmp_path / "p", AMD)

    async def vanish() -> float | None:
        (meter,) = open_rapl(root)
        assert await meter.read_j() == 0.0
        (root / "intel-rapl:0" / "energy_uj").unlink()
        found = await meter.read_j()
        await meter.close()
        return found

    assert asyncio.run(vanish()) is None
    assert not readable(find_zones(root))
    assert open_rapl(root) == []


@given(steps=st.lists(st.integers(0, 999), max_size=20), start=st.integers(0, 999))
def test_wraparound(tmp_path_factory: pytest.TempPathFactory, steps: list[int], start: int) -> None:
    """However often the counter wraps, all that it counted is counted, if it is read once in each turn."""
    root = tree(tmp_path_factory.mktemp("rapl") / "p", AMD, range_uj=999)
    count(root, "intel-rapl:0", start)

    async def total_j() -> float | None:
        (meter,) = open_rapl(root)
        await meter.read_j()
        at = start
        for step in steps:
            at = (at + step) % 1000
            count(root, "intel-rapl:0", at)
            await meter.read_j()
        found = await meter.read_j()
        await meter.close()
        return found

    assert asyncio.run(total_j()) == pytest.approx(sum(steps) / 1e6)


async def test_it_is_read_while_nobody_asks(tmp_path: Path) -> None:
    """A wraparound between two reads of the run is seen by the meter's own."""
    root = tree(tmp_path / "p", AMD, range_uj=999)
    meter = RaplMeter("cpu", find_zones(root), period_s=0.01)
    assert await meter.read_j() == 0.0
    for energy_uj in (800, 600):
        count(root, "intel-rapl:0", energy_uj)
        await asyncio.sleep(0.1)
    count(root, "intel-rapl:0", 700)
    assert await meter.read_j() == pytest.approx(1700e-6)
    await meter.close()
