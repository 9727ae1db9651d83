"""The samples file: what goes in comes out, whatever happened to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.energy.nvml import Sample
from rejoule.replay.energy.samples import COUNTS, RECORD, VALUES, Chain, header, lost_record, read_samples, record
from rejoule.traces import RejouleError

GPUS = [("GPU-a", "Fake", None), ("GPU-b", "Fake", 0.1)]
maybe_count = st.none() | st.integers(0, 2**53)
maybe_value = st.none() | st.integers(0, 2**20).map(lambda mw: mw / 1024)


def sample(host_ns: int, **told: Any) -> Sample:
    nothing = dict.fromkeys(("energy_mj", "reasons", "cap_ns", "thermal_ns", "brake_ns", *VALUES))
    return Sample(host_ns=host_ns, wall_us=host_ns // 1000, **{**nothing, **told})


def written(folder: Path, *records: bytes) -> Path:
    path = folder / "gpu-1.samples"
    path.write_bytes(
        header(GPUS, "580", 25_000_000, 7, 5_000_000_000, 1_000_000_005_000_000) + Chain().add(b"".join(records))
    )
    return path


def one(gpu: int, host_ns: int, cpu_ns: int = 0, **told: Any) -> bytes:
    return record(gpu, sample(host_ns, **told), epoch_us=0, end_ns=host_ns + 1, late_ns=0, cpu_ns=cpu_ns)


@given(st.fixed_dictionaries(dict.fromkeys(("energy_mj", "reasons", "cap_ns", "thermal_ns", "brake_ns"), maybe_count)),
       st.fixed_dictionaries(dict.fromkeys(VALUES, maybe_value)))  # fmt: skip
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, counts: dict[str, Any], values: dict[str, Any]) -> None:
    """Every column comes back as it was told, and what was not told is missing, not 0."""
    read = read_samples(written(tmp_path_factory.mktemp("s"), one(1, 10**9, **counts, **values)))
    assert len(read.gpus[0].records) == 0 and read.gpus[1].uuid == "GPU-b"
    assert read.gpus[0].tick_s is None and read.gpus[1].tick_s == 0.1
    for name, value in {**counts, **values}.items():
        found = read.gpus[1].values(name)[0]
        assert np.isnan(found) if value is None else found == value
    assert {*COUNTS, *VALUES, "check"} == set(RECORD.names or ())


def test_torn_end(tmp_path: Path) -> None:
    """A file cut anywhere after its first line reads up to its last whole record."""
    records = [one(i % 2, i * 10**6, energy_mj=i) for i in range(4)]
    whole = written(tmp_path, *records).read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(first, len(whole) + 1):
        path = tmp_path / "cut.samples"
        path.write_bytes(whole[:size])
        assert read_samples(path).count == (size - first) // RECORD.itemsize


def test_slice(tmp_path: Path) -> None:
    """A stretch of time is read without the rest."""
    path = written(tmp_path, *(one(i % 2, i * 10**8, cpu_ns=i * 10**6) for i in range(100)))
    read = read_samples(path, 2.0, 3.0)
    assert [len(t.records) for t in read.gpus] == [6, 5]
    assert read.gpus[0].at_s[0] == 2.0 and read.gpus[1].at_s[-1] == 2.9
    assert read.cpu_share == pytest.approx(0.01) and read.period_s == 0.025 and read.wall_offset_s == 1e6 * 1000


def test_lost(tmp_path: Path) -> None:
    """A GPU that did not answer has a record that says so, and nothing else."""
    lost = lost_record(0, host_ns=10**9, epoch_us=0, end_ns=10**9, late_ns=0, cpu_ns=0)
    track = read_samples(written(tmp_path, lost)).gpus[0]
    assert track.records["lost"][0] == 1 and np.isnan(track.values("power_w")[0])
    assert np.isnan(track.values("energy_mj")[0])


@pytest.mark.parametrize("content", [b"", b"{}\n", b"hello\n", b'{"rejoule_samples": 99}\n'])
def test_no_samples(tmp_path: Path, content: bytes) -> None:
    """What is no samples file is refused in one line."""
    path = tmp_path / "x.samples"
    path.write_bytes(content)
    with pytest.raises(RejouleError, match="samples"):
        read_samples(path)
