"""What was found before the first change is on disk, and one ReJoule at a time changes a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rejoule.replay.knobs import journal
from rejoule.replay.knobs.journal import Found, GpuLock
from rejoule.traces import RejouleError

UUID = "GPU-0"


def test_kept_and_forgotten(tmp_path: Path) -> None:
    """A journal is read as it was written, and is gone once cleared."""
    found = Found(UUID, limit_w=612.5, clock_locked=True, pid=7, boot=journal.boot_id())
    journal.write(tmp_path, found)
    assert journal.journaled(tmp_path) == (UUID,)
    assert journal.read(tmp_path, UUID) == found and not found.stale
    journal.clear(tmp_path, UUID)
    assert journal.read(tmp_path, UUID) is None and journal.journaled(tmp_path) == ()


def test_spoilt(tmp_path: Path) -> None:
    """A journal that cannot be read is a clear error, never taken for none."""
    (tmp_path / f"{UUID}.json").write_bytes(b'{"uuid": "GPU')
    with pytest.raises(RejouleError, match="nvidia-smi"):
        journal.read(tmp_path, UUID)


def test_unwritable(tmp_path: Path) -> None:
    """Where no journal can be kept there is an error, before any change."""
    (tmp_path / "file").touch()
    with pytest.raises(RejouleError, match="nothing is changed"):
        GpuLock(tmp_path / "file" / "knobs", UUID)


def test_one_at_a_time(tmp_path: Path) -> None:
    """A GPU's second taker is told who has it; a killed holder leaves it free."""
    code = (
        "import sys; from pathlib import Path; from rejoule.replay.knobs.journal import GpuLock\n"
        "lock = GpuLock(Path(sys.argv[1]), sys.argv[2]); print(flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path, UUID], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(RejouleError, match=f"process {holder.pid}"):
            GpuLock(tmp_path, UUID)
        holder.kill()
    GpuLock(tmp_path, UUID, wait_s=5).release()


def test_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REJOULE_STATE comes before XDG_STATE_HOME, and that before the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("REJOULE_STATE", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert journal.knobs_folder() == tmp_path / ".local/state/rejoule/knobs"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "x"))
    assert journal.knobs_folder() == tmp_path / "x/rejoule/knobs"
    monkeypatch.setenv("REJOULE_STATE", os.fspath(tmp_path / "r"))
    assert journal.knobs_folder() == tmp_path / "r/knobs"
