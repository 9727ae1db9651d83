"""The GPUs: what their sensors tell, what limits hold, and whether those may be set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Final

from rejoule.replay.doctor.finding import Finding
from rejoule.replay.energy.nvml import Gpu, GpuLost, Limits, Sample, has_gpu, open_nvml
from rejoule.replay.energy.variables import FAKE
from rejoule.traces import RejouleError

WATCHED_S: Final = 1.0
"""Ten ticks of the slowest counters known."""
POLL_S: Final = 0.004
DIFFERENT_W: Final = 1.0
CAP_SYS_ADMIN: Final = 21
"""Number of the capability in Linux's masks (linux/capability.h)."""
SENSORS: Final = {
    "energy_mj": "energy counter",
    "power_w": "instant power",
    "average_w": "average power",
    "hbm_w": "memory power",
    "sm_clock_mhz": "SM clock",
    "memory_clock_mhz": "memory clock",
    "temperature_c": "temperature",
    "limit_w": "limit in force",
    "cap_ns": "time under the cap",
    "thermal_ns": "time held by heat",
    "brake_ns": "time held by a power brake",
}
NO_DRIVER: Final = (
    "install NVIDIA's driver, or start the container with --gpus all; --engine sim needs neither, and servers on "
    "other machines are replayed without joules"
)


def gpu_findings(watched_s: float = WATCHED_S) -> Iterator[Finding]:
    """The driver, then each GPU that this process may use, then the permission to set limits and clocks."""
    try:
        nvml = open_nvml()
    except (RejouleError, GpuLost) as error:
        remedy = error.remedy if isinstance(error, RejouleError) else "restart the machine"
        yield Finding("NVIDIA driver", False, str(getattr(error, "what", error)), remedy)
        return
    if nvml is None:
        yield none_found(has_gpu())
        return
    with nvml:
        count = len(nvml.gpus)
        found = f"{nvml.driver}, with {count} {'GPU' if count == 1 else 'GPUs'}"
        yield Finding("NVIDIA driver", True, found, facts={"driver": nvml.driver, "gpus": count})
        if FAKE in os.environ:
            remedy = f"to see this machine's own: unset {FAKE}"
            yield Finding("NVIDIA driver", None, f"these GPUs are stand-ins, named by {FAKE}", remedy)
        for gpu in nvml.gpus:
            try:
                yield from one_gpu(gpu, watched_s)
            except GpuLost as error:
                yield Finding(f"GPU {gpu.index}", False, str(error), "reset it, or restart the machine")
        yield permission(privileged())


def none_found(hidden: bool) -> Finding:
    """No GPU that this process may use, be it that there is none, or that they are hidden from it."""
    if not hidden:
        return Finding("NVIDIA driver", False, "no driver with a GPU answers through NVML", NO_DRIVER)
    found = f"there are GPUs, and CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')} names none of them"
    remedy = "unset CUDA_VISIBLE_DEVICES, or set it to numbers or UUIDs that nvidia-smi -L shows"
    return Finding("NVIDIA driver", False, found, remedy)


def one_gpu(gpu: Gpu, watched_s: float) -> Iterator[Finding]:
    """All about one GPU. Raises GpuLost."""
    topic, memory = f"GPU {gpu.index}", gpu.memory_bytes()
    size = "" if memory is None else f", {memory / 2**30:.0f} GiB"
    facts = {"uuid": gpu.uuid, "name": gpu.name, "index": gpu.index, "memory_bytes": memory}
    yield Finding(topic, True, f"{gpu.name}{size}, {gpu.uuid}", facts=facts)
    samples = _watched(gpu, watched_s)
    yield _sensors(topic, samples)
    yield _counter(topic, samples)
    yield limits_finding(topic, gpu.uuid, gpu.limits())
    clocks = gpu.sm_clocks_mhz()
    told = f"{clocks[0]} to {clocks[-1]} MHz in {len(clocks)} steps" if clocks else "the GPU does not tell"
    yield Finding(topic, bool(clocks) or None, f"SM clocks to lock: {told}", facts={"sm_clocks_mhz": clocks})
    if gpu.mig():
        remedy = f"measure it whole: sudo nvidia-smi -i {gpu.uuid} -mig 0"
        yield Finding(topic, False, "it is split (MIG), and its sensors speak for all parts together", remedy)
    if gpu.persistence() is False:
        remedy = f"sudo nvidia-smi -i {gpu.uuid} -pm 1"
        yield Finding(topic, False, "without persistence mode limits are lost whenever nobody uses the GPU", remedy)
    if pids := gpu.processes():
        names = ", ".join(f"{pid} ({_name(pid)})" for pid in pids)
        remedy = "joules cannot be told apart from theirs: end them, or measure on other GPUs"
        yield Finding(topic, None, f"in use by {names}", remedy, {"processes": pids})


def limits_finding(topic: str, uuid: str, limits: Limits) -> Finding:
    """Whether the power limit in force is the usual one."""
    facts, known = asdict(limits), limits.in_force_w
    if known is None:
        return Finding(topic, None, "the power limit in force is not told", facts=facts)
    span = "" if limits.min_w is None or limits.max_w is None else f"; {limits.min_w:.0f} to {limits.max_w:.0f} W exist"
    if limits.default_w is None or abs(known - limits.default_w) <= DIFFERENT_W:
        return Finding(topic, True, f"power limit {known:.0f} W in force, the default{span}", facts=facts)
    asked = limits.requested_w
    if asked is not None and asked - known > DIFFERENT_W:
        remedy = "another limit of the node holds it down (BMC or rack): caps above it take no effect"
    else:
        remedy = f"if nobody means it: rejoule restore, or sudo nvidia-smi -i {uuid} -pl {limits.default_w:.0f}"
    return Finding(
        topic,
        False,
        f"power limit {known:.0f} W in force, not the default {limits.default_w:.0f} W{span}",
        remedy,
        facts,
    )


def permission(allowed: bool) -> Finding:
    """Whether limits and clocks may be set: privilege can rule it out, and proves nothing."""
    facts = {"privileged": allowed, "tried": False}
    if allowed:
        found = "not tried: this process has the privilege (CAP_SYS_ADMIN), yet a container or the GPU may refuse"
        remedy = "rejoule replay with --power-cap tries it before anything starts, by asking for the limit there is"
        return Finding("caps and clocks", None, found, remedy, facts)
    remedy = "sweep them as root, or replay without --power-cap and --sm-clock; measuring needs no root"
    return Finding(
        "caps and clocks", False, "setting them needs root or CAP_SYS_ADMIN; it was not tried", remedy, facts
    )


def privileged(status: Path = Path("/proc/self/status")) -> bool:
    """Whether this process has CAP_SYS_ADMIN, as root has unless it was taken away."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")]
    return any(mask >> CAP_SYS_ADMIN & 1 for mask in masks)


def tick_s(samples: Sequence[Sample]) -> float | None:
    """The median time between two changes of the energy counter; ``None`` of less than three changes."""
    changes = [b.host_ns for a, b in pairwise(samples) if a.energy_mj != b.energy_mj]
    return median(b - a for a, b in pairwise(changes)) / 1e9 if len(changes) > 2 else None


def _watched(gpu: Gpu, watched_s: float) -> list[Sample]:
    samples, end_s = [gpu.sample()], monotonic() + watched_s
    while monotonic() < end_s:
        sleep(POLL_S)
        samples.append(gpu.sample())
    return samples


def _sensors(topic: str, samples: Sequence[Sample]) -> Finding:
    answers = {name: any(getattr(s, name) is not None for s in samples) for name in SENSORS}
    silent = [SENSORS[name] for name, answered in answers.items() if not answered]
    measurable = answers["energy_mj"] or answers["power_w"] or answers["average_w"]
    found = f"{len(SENSORS) - len(silent)} of {len(SENSORS)} sensors answer"
    found += f"; not told: {', '.join(silent)}" if silent else ""
    remedy = None if measurable else "without power or energy there are no joules: update the driver"
    return Finding(topic, measurable, found, remedy, {"answers": answers})


def _counter(topic: str, samples: Sequence[Sample]) -> Finding:
    every_s = tick_s(samples)
    cost_s = (samples[-1].host_ns - samples[0].host_ns) / 1e9 / max(1, len(samples) - 1) - POLL_S
    facts = {"tick_s": every_s, "read_s": max(0.0, cost_s)}
    if every_s is None:
        if all(s.energy_mj is None for s in samples):
            return Finding(topic, None, "no energy counter: joules are integrated from sampled power", facts=facts)
        return Finding(topic, None, "the energy counter hardly moved while it was watched", facts=facts)
    found = f"the energy counter ticks every {every_s * 1e3:.0f} ms; a read takes {max(0.0, cost_s) * 1e3:.1f} ms"
    return Finding(topic, True, found, facts=facts)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "not of this container"
