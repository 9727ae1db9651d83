"""What the client itself does to a measurement: how late it was, what it cost, and whether it was the limit."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from statistics import median
from typing import Final

from rejoule.traces.run import Run

BUSY_SHARE: Final = 0.8
"""Share of one core above which a single-threaded client has no room left."""
LATE_S: Final = 0.010
LATE_SHARE: Final = 0.01
"""Lateness matters above both: 10 ms, and 1 % of the median call."""
SWITCH_S: Final = 0.5e-3
RUN_QUEUE: Final = Path("/proc/thread-self/schedstat")
"""Of Linux: nanoseconds that a thread ran, that it waited for a core, and how often it ran."""


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """Nearest-rank ``p50`` and ``p99``, and ``max``; ``None`` of nothing."""
    ordered = sorted(values)

    def rank(share: float) -> float | None:
        return ordered[ceil(share * len(ordered)) - 1] if ordered else None

    return {"p50": rank(0.50), "p99": rank(0.99), "max": rank(1.0)}


def cpu_share(run: Run) -> float | None:
    """CPU time of the client for each second of the run; ``None`` where the engine has no client."""
    cpu_s = run.engine.get("client_cpu_s")
    return cpu_s / run.makespan_s if cpu_s is not None and run.makespan_s > 0 else None


def core_wait_s() -> float | None:
    """How long this thread could have run and got no core, since it began; ``None`` where the system does not say."""
    try:
        return int(RUN_QUEUE.read_text().split()[1]) * 1e-9
    except (OSError, ValueError, IndexError):
        return None


def client_limit(run: Run) -> str | None:
    """Why a run measures the client and not the server, in a sentence; ``None`` if it does not."""
    share = cpu_share(run)
    if share is not None and share > BUSY_SHARE:
        return f"the client was busy for {share:.0%} of the run: the server could have done more"
    late_s = (run.engine.get("client_lateness_s") or {}).get("p99")
    if late_s is None or not run.calls:
        return None
    typical_s = median(c.end_s - c.sent_s for c in run.calls)
    if late_s > LATE_S and late_s > LATE_SHARE * typical_s:
        late = f"the client sent 1 % of the calls more than {late_s * 1e3:.0f} ms late"
        waited_s = run.engine.get("client_core_wait_s")
        if waited_s is None or waited_s < late_s / 2:
            return late
        return f"{late}: it waited {waited_s:.2g} s for a core, so leave it one that nothing else uses (taskset)"
    return None


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keeps the interpreter's own work out of a measurement: garbage collection, and long turns of other threads."""
    enabled, switch_s = gc.isenabled(), sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(switch_s)
        gc.unfreeze()
        if enabled:
            gc.enable()
