"""Which configurations may ask for knobs of real GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.replay.knobs.devices import device, environment

from rejoule.replay.check import check_configuration
from rejoule.traces import RejouleError
from rejoule.traces.run import Configuration

LOCAL = "http://127.0.0.1:8000/v1"
VLLM = {"model": "m"}


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device(tmp_path)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("gpus")
def test_here() -> None:
    """A server of ReJoule's own, and one that runs on this machine, may have caps and clocks."""
    check_configuration(Configuration(engine=LOCAL, power_cap_w=300, sm_clock_mhz=1200))
    check_configuration(Configuration(engine="vllm", power_cap_w=300, options={**VLLM, "settle_s": 0.5}))


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        (Configuration(engine="http://far.example/v1", power_cap_w=300), "only where the server's GPUs are"),
        (Configuration(engine=LOCAL, max_num_seqs=8), "already running"),
        (Configuration(engine="vllm", power_cap_w=-1, options=VLLM), "no meaning"),
        (Configuration(engine="vllm", options={**VLLM, "settle_s": -1}), "settle_s"),
        (Configuration(engine=LOCAL, options={"cool_down_s": "long"}), "cool_down_s"),
    ],
)
def test_not_so(configuration: Configuration, said: str) -> None:
    """What cannot be set is refused before anything starts."""
    with pytest.raises(RejouleError, match=said):
        check_configuration(configuration)


def test_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU there is nothing to set."""
    monkeypatch.setattr("rejoule.replay.knobs.gpu_session.has_gpu", lambda: False)
    with pytest.raises(RejouleError, match="no NVIDIA GPU answers"):
        check_configuration(Configuration(engine=LOCAL, power_cap_w=300))
