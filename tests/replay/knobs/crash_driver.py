"""Changes the knobs of the fake GPUs over and over until it ends; ``argv``: seed, and how it ends itself, if it does.

Prints ``begun`` once it holds the GPUs, and the watchdog's process number after each change. With ``step`` it waits for
a line of standard input after each.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from rejoule.replay.energy.nvml import Gpu, open_nvml
from rejoule.replay.knobs import journal
from rejoule.replay.knobs.control import Knobs
from rejoule.replay.knobs.setting import Setting


class FaultError(Exception):
    """Stands for any."""


def main(seed: int, dies: str) -> None:
    source = random.Random(seed)
    if dies == "exception":
        signal.signal(signal.SIGALRM, fault)
        signal.setitimer(signal.ITIMER_REAL, source.uniform(0.01, 0.4))
    elif "-" in dies:
        arm(dies, source.randrange(1, 4))
    asyncio.run(change(source, dies == "step"))


async def change(source: random.Random, stepwise: bool) -> None:
    nvml = open_nvml()
    assert nvml is not None
    with nvml, Knobs(nvml) as knobs:
        print("begun", flush=True)
        while True:
            cap = source.choice([None, 300.0, 450.0])
            clock = source.choice([None, 1200.0])
            await knobs.set(Setting(cap, clock), settle_s=0.002)
            print(knobs.watchdog_pid, flush=True)
            if stepwise:
                sys.stdin.readline()


def fault(*_: object) -> None:
    raise FaultError


def arm(where: str, count: int) -> None:
    """Makes the process kill itself at the ``count``-th passing of a place."""
    before, after = where.split("-")[0] == "before", where.split("-")[0] == "after"
    target: Any = {"journal": journal, "limit": Gpu, "clear": journal}[where.split("-")[1]]
    name = {"journal": "write", "limit": "set_power_limit_w", "clear": "clear"}[where.split("-")[1]]
    inner: Callable[..., Any] = getattr(target, name)
    passed = 0

    @wraps(inner)
    def outer(*arguments: Any) -> Any:
        nonlocal passed
        passed += 1
        if before and passed == count:
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*arguments)
        if after and passed == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(target, name, outer)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
