"""How a GPU keeps its own power limit in bursts: python -m benchmarks.gpu.bursts OUT.npz, or --told FILE.

Matrix products (bf16, 8192 wide, random) take turns with copies of memory, or with nothing, for as long as ``BUSY_S``
and ``LIGHT_S`` say, ``TURNS`` times each. Every product and copy is timed on the GPU, so that the rate of products is
the SM clock at a resolution of 1.5 ms. NVML's clock, power and reasons are read beside it. Nothing is set on the GPU.
It takes two minutes, needs PyTorch and no ReJoule. ``--told`` prints what a file says: the rate of products at times
after a burst began, against the best, by what was before it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import product
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any, Final

import numpy as np

BUSY_S: Final = (0.03, 0.1, 0.3, 1.0)
LIGHT_S: Final = (0.03, 0.1, 0.3, 1.0)
LIGHT: Final = ("copies", "nothing")
TURNS: Final = 5
WIDTH: Final = 8192
COPIED: Final = 1 << 29
READ_EVERY_S: Final = 0.005
INSTANT_POWER: Final = 186
AT_S: Final = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)


def measure(path: str) -> None:
    import pynvml
    import torch

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    done, sampled = Event(), []

    def read() -> None:
        while not done.is_set():
            power_w = pynvml.nvmlDeviceGetFieldValues(handle, [INSTANT_POWER])[0].value.uiVal / 1000
            clock_mhz = pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
            reasons = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
            sampled.append((monotonic(), power_w, clock_mhz, reasons))
            sleep(READ_EVERY_S)

    def recorded() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    left, right = (torch.randn(WIDTH, WIDTH, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(left)
    source, target = (torch.empty(COPIED, device="cuda", dtype=torch.float32) for _ in range(2))
    for _ in range(20):
        torch.matmul(left, right, out=out)
        target.copy_(source)
    torch.cuda.synchronize()
    sleep(2)
    thread = Thread(target=read)
    thread.start()
    rows = []
    for light, busy_s, light_s in product(LIGHT, BUSY_S, LIGHT_S):
        marks: list[tuple[int, int, Any]] = []
        zero = recorded()
        zero.synchronize()
        zero_s = monotonic()
        for turn in range(TURNS):
            marks.append((turn, 0, recorded()))
            for _ in range(max(1, round(busy_s / 0.0015))):
                torch.matmul(left, right, out=out)
                marks.append((turn, 1, recorded()))
            if light == "copies":
                for _ in range(max(1, round(light_s / 0.001))):
                    target.copy_(source)
                    marks.append((turn, 2, recorded()))
            else:
                torch.cuda.synchronize()
                sleep(light_s)
        torch.cuda.synchronize()
        rows += [
            (zero_s + zero.elapsed_time(event) / 1000, LIGHT.index(light), busy_s, light_s, turn, kind)
            for turn, kind, event in marks
        ]
        sleep(0.3)
    done.set()
    thread.join()
    np.savez_compressed(path, steps=np.array(rows), sampled=np.array(sampled))


def told(path: str) -> None:
    found = np.load(path)
    steps = found["steps"]
    begun: dict[tuple[int, float, float, int], float] = {}
    rates: dict[tuple[int, float], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    took_s = np.diff(steps[:, 0], prepend=np.nan)
    best_s = np.percentile(took_s[steps[:, 5] == 1], 1)
    for (at_s, light, busy_s, light_s, turn, kind), each_s in zip(steps.tolist(), took_s.tolist(), strict=True):
        key = (int(light), busy_s, light_s, int(turn))
        if kind == 0:
            begun[key] = at_s
        elif kind == 1 and turn > 0 and busy_s >= 0.3:
            since_s = at_s - begun[key]
            place = max((edge for edge in AT_S if edge <= since_s), default=0.0)
            rates[int(light), light_s][place].append(best_s / each_s)
    print(f"| before it | {' | '.join(f'{edge * 1000:.0f} ms' for edge in AT_S)} |\n| --- |{' --: |' * len(AT_S)}")
    for (light, light_s), by in sorted(rates.items()):
        cells = (f"{np.median(by[edge]):.0%}" if by[edge] else "–" for edge in AT_S)
        print(f"| {light_s:g} s of {LIGHT[light]} | {' | '.join(cells)} |")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--told", file]:
            told(file)
        case [file]:
            measure(file)
        case _:
            sys.exit(__doc__)
