"""Knobs are set on every GPU, proven, and put back; what cannot be had is refused with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.replay.knobs.devices import FOUND_W, UUIDS, device, limits_w, lock_mhz, opened

from rejoule.replay.energy.nvml import Gpu, Nvml
from rejoule.replay.knobs import journal
from rejoule.replay.knobs.control import Knobs
from rejoule.replay.knobs.setting import KnobRefused, Setting
from rejoule.traces import RejouleError

CAP = Setting(power_cap_w=300)
CLOCK = Setting(sm_clock_mhz=1200)
BOTH = Setting(450, 1200)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    device(tmp_path)
    return tmp_path


async def test_one_after_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is in force on all GPUs, what it leaves out is as found, and in the end all is."""
    with opened(folder, monkeypatch) as nvml:
        with Knobs(nvml) as knobs:
            for setting in (CAP, Setting(), BOTH, CLOCK, CLOCK, CAP):
                await knobs.set(setting, settle_s=0)
                wanted = dict.fromkeys(UUIDS, setting.power_cap_w) if setting.power_cap_w else FOUND_W
                assert limits_w(folder) == wanted
                assert lock_mhz(folder) == [setting.sm_clock_mhz] * 2
                assert await knobs.confirm() == setting.power_cap_w
        assert limits_w(folder) == FOUND_W and lock_mhz(folder) == [None, None]
    assert not journal.journaled(folder / "state/knobs")


async def test_nothing_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a knob nothing is journaled and no watchdog started."""
    with opened(folder, monkeypatch) as nvml, Knobs(nvml) as knobs:
        await knobs.set(Setting(), settle_s=0)
        assert knobs.watchdog_pid is None and not journal.journaled(folder / "state/knobs")


async def test_settles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change it settles, and not where nothing changed."""
    said: list[str] = []
    with opened(folder, monkeypatch) as nvml, Knobs(nvml) as knobs:
        for _ in range(2):
            await knobs.set(CAP, settle_s=0.01, on_wait=said.append)
    assert said == ["settling for 0.01 s after a change of knobs"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (Setting(power_cap_w=199), "outside the range.*200 to 700 W"),
        (Setting(power_cap_w=701), "outside the range"),
        (Setting(sm_clock_mhz=1201), "the nearest is 1200"),
    ],
)
def test_range(folder: Path, monkeypatch: pytest.MonkeyPatch, setting: Setting, said: str) -> None:
    """What a GPU does not have is refused before anything is changed, with what it has."""
    with opened(folder, monkeypatch) as nvml, Knobs(nvml) as knobs:
        for good in (CAP, CLOCK, BOTH, Setting()):
            knobs.check(good)
        with pytest.raises(KnobRefused, match=said):
            knobs.check(setting)
    assert limits_w(folder) == FOUND_W


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"permission": False}, "as root"),
        ({"unsupported": ("nvmlDeviceSetPowerManagementLimit",)}, "does not have this knob"),
    ],
)
def test_may_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, properties: dict[str, Any], said: str) -> None:
    """A missing permission or function is found beforehand, and again when it is set."""
    device(tmp_path, **properties)
    with opened(tmp_path, monkeypatch) as nvml, Knobs(nvml) as knobs, pytest.raises(KnobRefused, match=said):
        knobs.check(CAP)
    assert not journal.journaled(tmp_path / "state/knobs")


@pytest.mark.parametrize("properties", [{"ignores_limit": True}, {"node_limit_w": 350.0}])
async def test_not_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, properties: dict[str, Any]) -> None:
    """A limit that is accepted and not kept to is refused, and the GPUs are as they were found."""
    monkeypatch.setattr("rejoule.replay.knobs.control.IN_FORCE_S", 0.05)
    device(tmp_path, **properties)
    with opened(tmp_path, monkeypatch) as nvml, Knobs(nvml) as knobs:
        with pytest.raises(KnobRefused, match="power_cap_w = 400 is not in force on GPU 0"):
            await knobs.set(Setting(400), settle_s=0)
        assert limits_w(tmp_path) == FOUND_W and not journal.journaled(tmp_path / "state/knobs")


async def test_changed_by_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that somebody else changed meanwhile is noticed."""
    monkeypatch.setattr("rejoule.replay.knobs.control.IN_FORCE_S", 0.05)
    with opened(folder, monkeypatch) as nvml, Knobs(nvml) as knobs:
        await knobs.set(CAP, settle_s=0)
        nvml.gpus[1].set_power_limit_w(500)
        with pytest.raises(KnobRefused, match=r"GPU 1 .*500 W is"):
            await knobs.confirm()


async def test_one_of_two_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one GPU refuses, the other is put back at once."""
    with opened(folder, monkeypatch) as nvml, Knobs(nvml) as knobs:
        inner = Gpu.set_power_limit_w

        def second_refuses(gpu: Gpu, watts: float) -> None:
            inner(gpu, watts if gpu.index == 0 or watts != 300 else 1)

        monkeypatch.setattr(Gpu, "set_power_limit_w", second_refuses)
        with pytest.raises(KnobRefused, match="does not accept"):
            await knobs.set(CAP, settle_s=0)
        assert limits_w(folder) == FOUND_W and not journal.journaled(folder / "state/knobs")


def test_two_experiments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second ReJoule on the same GPUs is told of the first."""
    with opened(folder, monkeypatch) as nvml, Knobs(nvml):
        other = Knobs(nvml, lock_wait_s=0)
        with pytest.raises(RejouleError, match="another ReJoule, process"):
            other.__enter__()


async def test_no_journal_no_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the journal cannot be written nothing is set."""
    with opened(folder, monkeypatch) as nvml, Knobs(nvml) as knobs:
        monkeypatch.setattr(journal, "write", _no_room)
        with pytest.raises(RejouleError, match="No space"):
            await knobs.set(CAP, settle_s=0)
    assert limits_w(folder) == FOUND_W


async def test_another_boot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal from before the machine was started anew is dropped: its limit is gone with the driver."""
    (folder / "state/knobs").mkdir(parents=True)
    journal.write(folder / "state/knobs", journal.Found(UUIDS[0], limit_w=222, boot="another"))
    with opened(folder, monkeypatch) as nvml, Knobs(nvml):
        assert limits_w(folder) == FOUND_W and not journal.journaled(folder / "state/knobs")


def _no_room(*_: object) -> None:
    raise RejouleError("cannot write the journal: No space left on device", "make room")


def test_another_machines_journal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal of a GPU that this machine lacks, as in a home folder shared by nodes, is left alone."""
    (folder / "state/knobs").mkdir(parents=True)
    journal.write(folder / "state/knobs", journal.Found("GPU-elsewhere", limit_w=222, boot="another"))
    with opened(folder, monkeypatch) as nvml, Knobs(nvml):
        assert isinstance(nvml, Nvml)
    assert journal.journaled(folder / "state/knobs") == ("GPU-elsewhere",)
