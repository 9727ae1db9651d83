"""Runs start at like temperatures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rejoule.replay.knobs.temperature import StartTemperature


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rejoule.replay.knobs.temperature.POLL_S", 0.001)


async def test_waits_until_as_cool() -> None:
    """The first run sets the temperature; a later one waits until it is within the tolerance."""
    falling: Iterator[float | None] = iter([40.0, 45.0, 43.0, 42.0, 39.0])
    start = StartTemperature(lambda: next(falling))
    await start.match()
    await start.match()
    assert start.start_c == 40.0 and next(falling) == 39.0


async def test_gives_up() -> None:
    """A GPU that comes to rest warmer is waited for once."""
    temperature = StartTemperature(iter([30.0, *[50.0] * 10_000]).__next__)
    await temperature.match(cool_down_s=0.01)
    said: list[str] = []
    await temperature.match(cool_down_s=0.01, on_wait=said.append)
    assert temperature.start_c == 50.0 and said
    said.clear()
    await temperature.match(cool_down_s=0.01, on_wait=said.append)
    assert not said


async def test_unknown() -> None:
    """Where no temperature is told nothing is waited for."""
    await StartTemperature(lambda: None).match()
