"""A load of known work on a GPU, beside a run: matrix products in a steady duty cycle, or in bursts of one.

Only torch. It says ``ready`` once it is warm, then writes every 50 ms how many products it has made, in lines of
``monotonic ns, products``, until it or its parent is ended. Products times the joules of one, measured alone, are what
it drew where others slow it down. With ``--duty 0`` it holds a context and does nothing.

Usage: foreign_load.py LOG [--size 4096] [--duty 0.25] [--period-ms 8] [--on-s 1 --off-s 1]
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Final

LINE_S: Final = 0.05
WARM_S: Final = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--duty", type=float, default=0.25, help="share of each period in which it works when alone")
    parser.add_argument("--period-ms", type=float, default=8.0)
    parser.add_argument("--on-s", type=float, default=0.0, help="seconds of load in each burst; 0 is always")
    parser.add_argument("--off-s", type=float, default=0.0, help="seconds between bursts")
    asked = parser.parse_args()
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = torch.Generator(device=device).manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    a, b = (torch.randn(asked.size, asked.size, generator=source, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    begun_s, made = time.monotonic(), 0
    while time.monotonic() - begun_s < WARM_S or made < 20:
        if made == 10:
            wait()
            timed_s = time.monotonic()
        torch.mm(a, b, out=out)
        made += 1
        if made == 20:
            wait()
            one_s = (time.monotonic() - timed_s) / 10
        if made % 10 == 0:
            wait()
    each = max(1, round(asked.duty * asked.period_ms / 1e3 / one_s)) if asked.duty else 0
    print(f"ready: a product takes {one_s * 1e3:.3f} ms, {each} of them every {asked.period_ms:g} ms", flush=True)

    made, said_s, begun_s, parent = 0, 0.0, time.monotonic(), os.getppid()
    with asked.log.open("w") as log:
        while os.getppid() == parent:
            now_s = time.monotonic()
            if now_s - said_s >= LINE_S:
                log.write(f"{time.monotonic_ns()}, {made}\n")
                log.flush()
                said_s = now_s
            cycle_s = asked.on_s + asked.off_s
            if each and (not cycle_s or (now_s - begun_s) % cycle_s < asked.on_s):
                for _ in range(each):
                    torch.mm(a, b, out=out)
                wait()
                made += each
            time.sleep(max(0.0, now_s + asked.period_ms / 1e3 - time.monotonic()))


if __name__ == "__main__":
    main()
