"""Two stand-in GPUs whose limits are neither their defaults nor alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rejoule.replay.energy.fake import FakeGpu, FakeNvml, create
from rejoule.replay.energy.nvml import Nvml, open_nvml

UUIDS = ("GPU-11111111-0000-0000-0000-000000000000", "GPU-22222222-0000-0000-0000-000000000000")
FOUND_W = {UUIDS[0]: 612.5, UUIDS[1]: 540.0}


def device(folder: Path, **properties: Any) -> None:
    """Makes the GPUs in ``folder``; ``properties`` are those of FakeGpu, of both."""
    gpus = [FakeGpu(**{"uuid": uuid, "requested_w": watts, **properties}) for uuid, watts in FOUND_W.items()]
    folder.mkdir(parents=True, exist_ok=True)
    create(folder / "nvml", gpus)


@cache
def handle(folder: Path) -> FakeNvml:
    return FakeNvml(folder / "nvml")


def limits_w(folder: Path) -> Mapping[str, float]:
    """The limit requested of each GPU."""
    fake = handle(folder)
    return {uuid: fake.truth(place).requested_w for place, uuid in enumerate(UUIDS)}


def lock_mhz(folder: Path) -> list[int | None]:
    """The clock lock of each GPU."""
    fake = handle(folder)
    return [fake.truth(place).locked_mhz for place in range(len(UUIDS))]


def environment(folder: Path) -> Mapping[str, str]:
    """What a process needs to see them, and to keep its journals beside them."""
    return {"REJOULE_FAKE_NVML": str(folder / "nvml"), "REJOULE_STATE": str(folder / "state")}


@contextmanager
def opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nvml]:
    """The GPUs of ``folder``, in this process."""
    for name, value in environment(folder).items():
        monkeypatch.setenv(name, value)
    nvml = open_nvml()
    assert nvml is not None
    with nvml:
        yield nvml
