"""What each GPU of a run took, where several did: by their own counters, or equal shares where a model knows a sum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Final

from rejoule.traces.figures import tensor_parallel
from rejoule.traces.run import Reading, Run

EQUAL: Final = "equal shares, by assumption: the model knows the sum alone"


@dataclass(frozen=True, slots=True)
class GpuEnergy:
    """Joules of one GPU; those of all add up to the run's."""

    name: str
    """Its UUID, or its number in a modelled run."""
    energy_j: float
    idle_j: float | None
    """The part spent while no call was in flight; ``None`` where that is not known of the run."""
    assumed: bool
    """Whether it is an equal share of what a model says of all."""


def by_gpu(run: Run) -> tuple[GpuEnergy, ...]:
    """In the order of the run's conditions; empty for a single GPU, and where nothing tells several apart."""
    total_j, idle_j, readings = run.energy.gpu_j, run.energy.idle_j, run.readings or ()
    if total_j is None:
        return ()
    counts = {len(reading.gpus_j) for reading in readings}
    if len(counts) == 1 and (count := counts.pop()) > 1:
        told = () if run.conditions is None else run.conditions.gpus
        names = told if len(told) == count else tuple(f"GPU {i}" for i in range(count))
        resting = _resting(run, readings)
        return tuple(
            GpuEnergy(
                names[i],
                fsum(r.gpus_j[i] for r in readings),
                None if idle_j is None else fsum(s * r.gpus_j[i] for s, r in zip(resting, readings, strict=True)),
                assumed=False,
            )
            for i in range(count)
        )
    gpus = tensor_parallel(run)
    if run.measured or gpus < 2:
        return ()
    share_j, rest_j = total_j / gpus, None if idle_j is None else idle_j / gpus
    return tuple(GpuEnergy(f"GPU {i}", share_j, rest_j, assumed=True) for i in range(gpus))


def mean_by_gpu(runs: Iterable[Run]) -> tuple[GpuEnergy, ...]:
    """The means over trials on the same GPUs; empty where a trial tells nothing of them, or is on others."""
    found = [by_gpu(run) for run in runs]
    if not found or len({tuple(gpu.name for gpu in gpus) for gpus in found}) > 1:
        return ()
    return tuple(_mean(gpus) for gpus in zip(*found, strict=True))


def _mean(trials: Sequence[GpuEnergy]) -> GpuEnergy:
    idle = [gpu.idle_j for gpu in trials if gpu.idle_j is not None]
    return GpuEnergy(
        trials[0].name,
        fsum(gpu.energy_j for gpu in trials) / len(trials),
        fsum(idle) / len(idle) if len(idle) == len(trials) else None,
        any(gpu.assumed for gpu in trials),
    )


def _resting(run: Run, readings: Sequence[Reading]) -> list[float]:
    """The share of each reading in which no call was in flight."""
    busy: list[list[float]] = []
    for start_s, end_s in sorted((call.sent_s, call.end_s) for call in run.calls):
        if busy and start_s <= busy[-1][1]:
            busy[-1][1] = max(busy[-1][1], end_s)
        else:
            busy.append([start_s, end_s])
    shares, first = [], 0
    for reading in readings:
        while first < len(busy) and busy[first][1] <= reading.start_s:
            first += 1
        inside, at = 0.0, first
        while at < len(busy) and busy[at][0] < reading.end_s:
            inside += min(busy[at][1], reading.end_s) - max(busy[at][0], reading.start_s)
            at += 1
        length_s = reading.end_s - reading.start_s
        shares.append(1.0 - inside / length_s if length_s > 0.0 else 0.0)
    return shares
