"""What the doctor says of made machines."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from rejoule.replay.cli.main import rejoule
from rejoule.replay.doctor.finding import Finding
from rejoule.replay.doctor.gpus import gpu_findings, permission, privileged
from rejoule.replay.doctor.jail import jail_finding
from rejoule.replay.doctor.machine import disk_finding, journals_finding, machine_findings, rapl_finding, vllm_finding
from rejoule.replay.energy import fake
from rejoule.traces import RejouleError


@dataclass(frozen=True)
class FoundJail:
    parts: Mapping[str, bool | None]
    trouble: RejouleError | None


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes the GPUs that the doctor sees."""
    monkeypatch.setenv("REJOULE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def made(*gpus: fake.FakeGpu) -> fake.FakeNvml:
        found = fake.create(tmp_path / "gpus", gpus)
        monkeypatch.setenv("REJOULE_FAKE_NVML", str(found.path))
        return found

    yield made


def about(findings: Iterator[Finding], word: str) -> Finding:
    (found,) = [f for f in findings if word in f.found]
    return found


def test_a_healthy_gpu(machine: Any) -> None:
    """All sensors answer, the counter's pace is measured, and the default limit is in force."""
    machine(fake.FakeGpu())
    findings = list(gpu_findings(0.5))
    assert not [f for f in findings if f.topic == "GPU 0" and f.ok is False]
    assert about(iter(findings), "ticks").facts["tick_s"] == pytest.approx(0.1, rel=0.2)
    limits = about(iter(findings), "power limit").facts
    assert (limits["min_w"], limits["in_force_w"], limits["max_w"]) == (200, 700, 700)
    assert about(iter(findings), "stand-ins").ok is None


@pytest.mark.parametrize(
    ("gpu", "word", "remedy"),
    [
        (fake.FakeGpu(requested_w=400), "not the default 700 W", "-pl 700"),
        (fake.FakeGpu(node_limit_w=500), "not the default 700 W", "BMC"),
        (fake.FakeGpu(mig=True), "MIG", "-mig 0"),
        (fake.FakeGpu(persistence=False), "persistence", "-pm 1"),
        pytest.param(fake.FakeGpu(processes=(os.getpid(),)), str(os.getpid()), "end them", id="foreign process"),
        (fake.FakeGpu(unsupported=(83, 191, "nvmlDeviceGetTotalEnergyConsumption")), "no energy counter", None),
    ],
)
def test_each_trouble_has_its_remedy(machine: Any, gpu: fake.FakeGpu, word: str, remedy: str | None) -> None:
    machine(gpu)
    found = about(gpu_findings(0.1), word)
    assert found.ok is not True
    assert (remedy is None) == (found.remedy is None)
    assert remedy is None or remedy in str(found.remedy)


def test_a_lost_gpu_leaves_the_others(machine: Any) -> None:
    gpus = machine(fake.FakeGpu(), fake.FakeGpu(seed=1))
    gpus.lose(0, after_s=0.15)
    findings = list(gpu_findings(0.4))
    assert about(iter(f for f in findings if f.topic == "GPU 0"), "lost").ok is False
    assert [f for f in findings if f.topic == "GPU 1" and f.ok]


def test_nothing_is_changed(machine: Any) -> None:
    """The doctor sets no limit and no clock, not even to what it is already."""
    gpus = machine(fake.FakeGpu(requested_w=333))
    gpus.lock_clock_mhz(0, 600)
    state = Path(gpus.path).joinpath
    before = {file: file.read_bytes() for file in state().iterdir() if file.is_file()}
    list(gpu_findings(0.05))
    assert before == {file: file.read_bytes() for file in state().iterdir() if file.is_file()}


@pytest.mark.parametrize(("mask", "expected"), [("000001ffffffffff", True), ("0000000000200000", True), ("0", False)])
def test_permission_is_judged_by_capability(tmp_path: Path, mask: str, expected: bool) -> None:
    """Its lack is a fault; having it proves nothing, and how it is tried is told."""
    (tmp_path / "status").write_text(f"Name:\tpython\nCapEff:\t{mask}\n")
    assert privileged(tmp_path / "status") is expected
    found = permission(expected)
    assert found.ok is (None if expected else False)
    assert "not tried" in found.found and found.facts["tried"] is False and found.remedy


@pytest.mark.parametrize("listed", ["", "7", "GPU-none"])
def test_hidden_gpus_are_not_missing(machine: Any, monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    """Where CUDA_VISIBLE_DEVICES hides every GPU, it is what the remedy names, not the driver."""
    machine(fake.FakeGpu())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    (found,) = gpu_findings(0.1)
    assert found.ok is False and f"CUDA_VISIBLE_DEVICES={listed} " in found.found
    assert "unset CUDA_VISIBLE_DEVICES" in str(found.remedy)


def test_rapl(tmp_path: Path) -> None:
    """No RAPL is no fault; RAPL that may not be read is, and the command that allows it is told with its price."""
    assert rapl_finding(tmp_path).ok is None
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("1000\n")
    forbidden = rapl_finding(tmp_path)
    assert forbidden.ok is False
    assert "chmod a+r" in str(forbidden.remedy) and "CVE-2020-8694" in str(forbidden.remedy)
    (zone / "energy_uj").write_text("1\n")
    assert rapl_finding(tmp_path).ok is True


def test_a_jail_that_cannot_be_had_is_a_fault() -> None:
    """It is told which part is missing, which were not reached, and what to do."""
    parts = {"namespaces": True, "files": False, "program": None}
    there = jail_finding(FoundJail({"namespaces": True}, None))
    assert there.ok is True and there.remedy is None
    missing = jail_finding(FoundJail(parts, RejouleError("files refused", "take another kernel")))
    assert missing.ok is False and missing.remedy == "take another kernel" and missing.facts == {"parts": parts}
    assert missing.found == "files refused; had before: namespaces; not reached: program"


def test_journals_left_behind(tmp_path: Path) -> None:
    assert journals_finding(tmp_path / "none").ok is True
    (tmp_path / "GPU-1.json").write_text("{}")
    left = journals_finding(tmp_path)
    assert left.ok is False and "GPU-1" in left.found and "rejoule restore" in str(left.remedy)


def test_an_unusable_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder that is a file, or may not be written, is found before an experiment needs it."""
    (tmp_path / "file").write_text("")
    assert journals_finding(tmp_path / "file/knobs").ok is False
    monkeypatch.setattr("os.access", lambda *_: False)  # tests may run as root, who may write anywhere
    found = journals_finding(tmp_path / "none/knobs")
    assert found.ok is False and "cannot be written" in found.found and "REJOULE_STATE" in str(found.remedy)


def test_a_wrong_interpreter_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without vLLM nothing is wrong; a REJOULE_VLLM_PYTHON that does not lead to one is, and is named."""
    monkeypatch.delenv("REJOULE_VLLM_PYTHON", raising=False)
    assert vllm_finding().ok is not False
    monkeypatch.setenv("REJOULE_VLLM_PYTHON", "/nonexistent/python")
    found = vllm_finding()
    assert found.ok is False and "$REJOULE_VLLM_PYTHON names it" in str(found.remedy)


def test_the_rest_of_the_machine(tmp_path: Path) -> None:
    topics = [f.topic for f in machine_findings(tmp_path)]
    assert topics == ["CPU and DRAM energy", "restored", "vLLM", "Python", "disk"]
    assert disk_finding(tmp_path).facts["free_bytes"] > 0


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_the_command_ends_well(machine: Any, words: list[str]) -> None:
    """Whatever it finds, the exit status is 0; ``--json`` is one object."""
    machine(fake.FakeGpu(mig=True))
    done = CliRunner().invoke(rejoule, ["doctor", *words])
    assert done.exit_code == 0, done.output
    if words:
        findings = orjson.loads(done.stdout)["findings"]
        assert {"topic", "ok", "found", "remedy", "facts"} == set(findings[0])
    else:
        assert "✗" in done.stdout and "-mig 0" in done.stdout
