"""Stand-in GPUs under the real pynvml, for tests and trials without one.

Every process whose ``REJOULE_FAKE_NVML`` names their folder sees them: the sampler, the knobs, ``rejoule doctor``, and
each thing that reads NVML through ReJoule. In a test of your own:

    from rejoule.replay.energy import fake
    from rejoule.replay.energy.nvml import open_nvml

    def test_my_meter(tmp_path, monkeypatch):
        gpus = fake.create(tmp_path / "gpus", [fake.FakeGpu(scenario=fake.Square(100, 600))], virtual=True)
        monkeypatch.setenv("REJOULE_FAKE_NVML", str(gpus.path))
        with open_nvml() as nvml:
            before = nvml.gpus[0].sample()
            gpus.advance_s(60)
            after = nvml.gpus[0].sample()
        truth_j = gpus.true_energy_j(0, before.host_ns, after.host_ns)

A GPU's power follows its scenario, or from the first ``drive`` on what a load asks for, held down by the power limit,
clock lock, brake and heat. It is constant between changes, so that ``true_energy_j`` is exact; the sensors say it with
the delays and gaps of real ones. ``FakeNvml(path)`` opens the same GPUs in another process.
"""

from rejoule.replay.energy.fake.device import FakeNvml, Sensed, Truth, create, drive, true_energy_j
from rejoule.replay.energy.fake.gpu import FakeGpu
from rejoule.replay.energy.fake.scenario import Constant, Levels, Ramp, Scenario, Square, Steps

__all__ = [
    "Constant",
    "FakeGpu",
    "FakeNvml",
    "Levels",
    "Ramp",
    "Scenario",
    "Sensed",
    "Square",
    "Steps",
    "Truth",
    "create",
    "drive",
    "true_energy_j",
]
