"""Brings stand-in GPUs up to the moment: what their scenarios, their heat and a driver's end have changed since."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rejoule.replay.energy.fake.curve import Log, Point, next_change_ns, next_point
from rejoule.replay.energy.fake.state import GpuState, State, Store


@contextmanager
def current(store: Store) -> Iterator[State]:
    """The state as it is at this moment, locked for others; ``store.save`` keeps a change of it."""
    with store.locked() as state:
        if advance(store, state, state.now_ns):
            store.save(state)
        yield state


@contextmanager
def changed(store: Store, gpu: int) -> Iterator[GpuState]:
    """A GPU to be changed from this moment on; what the body does to it is kept when it ends."""
    with store.locked() as state:
        now_ns = state.now_ns
        advance(store, state, now_ns)
        found = state.gpus[gpu]
        yield found
        log = Log(store, gpu, found.points)
        found.points = log.append([next_point(found, log[len(log) - 1], now_ns, state.start_ns)])
        store.save(state)


def advance(store: Store, state: State, now_ns: int) -> bool:
    """Writes every point until ``now_ns``; whether there was any."""
    moved = False
    for fault in state.faults:
        if fault.kind == "unloaded" and fault.at_ns <= now_ns and not fault.applied:
            fault.applied = moved = True
            for index, gpu in enumerate(state.gpus):
                _fill(store, state, index, fault.at_ns)
                gpu.requested_w = gpu.accepted_w = gpu.spec.default_w
                gpu.locked_mhz = None
                gpu.resets_ns = sorted([*gpu.resets_ns, fault.at_ns])
                log = Log(store, index, gpu.points)
                gpu.points = log.append([next_point(gpu, log[len(log) - 1], fault.at_ns, state.start_ns)])
    for index in range(len(state.gpus)):
        moved |= _fill(store, state, index, now_ns)
    return moved


def _fill(store: Store, state: State, index: int, now_ns: int) -> bool:
    gpu = state.gpus[index]
    log = Log(store, index, gpu.points)
    last = log[len(log) - 1]
    points: list[Point] = []
    while (due_ns := next_change_ns(gpu, last, state.start_ns)) <= now_ns:
        last = next_point(gpu, last, round(due_ns), state.start_ns)
        points.append(last)
    if points:
        gpu.points = log.append(points)
    return bool(points)
