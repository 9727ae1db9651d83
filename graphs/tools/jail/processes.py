"""A tree of processes: who is in it, what it holds, and its end."""

import os
import time

from .kernel import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 3.0
KIB = 1024


def descendants(top: int) -> list[int]:
    """All processes that descend from ``top``."""
    found: list[int] = []
    children = _by_task if os.path.exists(f"/proc/self/task/{os.getpid()}/children") else _by_parent()  # noqa: PTH110
    fresh = children(top)
    while fresh:
        found += fresh
        fresh = [child for parent in fresh for child in children(parent)]
    return found


def held(pids: list[int]) -> tuple[int, int]:
    """How many threads they are, and the bytes that they hold; what they share counts once for each."""
    threads = kib = 0
    for pid in pids:
        figures = _figures(f"/proc/{pid}/status")
        threads += figures.get("Threads", 0)
        kib += figures.get("VmRSS", 0) + figures.get("VmSwap", 0)
    return threads, kib * KIB


def held_apart(pids: list[int]) -> int:
    """The bytes that they hold, where each of n owners of a page counts an nth of it; slower than `held`."""
    kib = 0
    for pid in pids:
        figures = _figures(f"/proc/{pid}/smaps_rollup") or _figures(f"/proc/{pid}/status")
        kib += figures.get("Pss", figures.get("VmRSS", 0)) + figures.get("SwapPss", figures.get("VmSwap", 0))
    return kib * KIB


def end_tree(top: int) -> None:
    """Kills all that descend from ``top``, this process, until none is left, but for those that the kernel holds."""
    give_up_s = time.monotonic() + PATIENCE_S
    while (left := descendants(top)) and time.monotonic() < give_up_s:
        for pid in left:
            try:
                os.kill(pid, SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        time.sleep(0.001)


def _by_task(parent: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{parent}/task"):  # noqa: PTH208
            with open(f"/proc/{parent}/task/{task}/children") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    except OSError:  # it has ended, and what it left is another's child by now
        pass
    return found


def _by_parent() -> "Callable[[int], list[int]]":
    """Children as they are now; for kernels that do not list them."""
    of: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            of.setdefault(_figures(f"/proc/{name}/status").get("PPid", 0), []).append(int(name))
    return lambda parent: of.get(parent, [])


def _figures(path: str) -> dict[str, int]:
    """The lines of a file of /proc that begin with a number; empty where the process is gone."""
    try:
        with open(path) as file:  # noqa: PTH123
            words = [line.split() for line in file]
    except OSError:
        return {}
    return {line[0].rstrip(":"): int(line[1]) for line in words if len(line) > 1 and line[1].isdigit()}
