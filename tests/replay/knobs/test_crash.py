"""However an experiment ends, its GPUs are as they were found."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.replay.knobs.devices import FOUND_W, UUIDS, device, environment, limits_w, lock_mhz, opened

from rejoule.replay.knobs import journal
from rejoule.replay.knobs.control import Knobs
from rejoule.replay.knobs.journal import GpuLock
from rejoule.replay.knobs.restore import restore_journaled

CRASHES = int(os.environ.get("REJOULE_CRASHES", "20"))
"""``make test-crash`` asks for 100."""
DRIVER = Path(__file__).with_name("crash_driver.py")
PLACES = ("before-journal", "after-journal", "before-limit", "after-limit", "before-clear", "after-clear")
WAYS = ("SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "group SIGKILL", "group SIGINT", "exception")


@contextmanager
def driver(folder: Path, seed: int, dies: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that changes the knobs of two GPUs over and over, in a process group of its own."""
    device(folder)
    with subprocess.Popen(
        [sys.executable, DRIVER, str(seed), dies],
        env={**os.environ, **environment(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def as_found(folder: Path) -> bool:
    """Whether both GPUs are as they were, once nobody may change them any more."""
    for uuid in UUIDS:
        GpuLock(folder / "state/knobs", uuid, wait_s=30).release()
    unlocked = lock_mhz(folder) == [None, None]
    return limits_w(folder) == FOUND_W and unlocked and not journal.journaled(folder / "state/knobs")


@dataclass(frozen=True)
class Crash:
    way: str
    changed: bool
    """Whether GPUs were changed right before it."""
    as_found: bool


def crash(folder: Path, seed: int) -> Crash:
    """Ends an experiment somehow at a random moment."""
    source = random.Random(f"crash {seed}")
    way = source.choice(WAYS)
    with driver(folder, seed, "exception" if way == "exception" else "") as process:
        line(process)
        if way != "exception":
            for _ in range(source.randrange(12)):  # counted in changes, not in seconds: machines differ
                line(process)
            time.sleep(source.uniform(0, 0.01))
        changed = limits_w(folder) != FOUND_W or lock_mhz(folder) != [None, None]
        if way != "exception":
            number = signal.Signals[way.split()[-1]]
            if way.startswith("group"):
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        process.wait(30)
    return Crash(way, changed, as_found(folder))


def test_random_crashes(tmp_path: Path) -> None:
    """At random moments, by exceptions, SIGINT, SIGTERM and SIGKILL, to the process or its group."""
    folders = [tmp_path / str(seed) for seed in range(CRASHES)]
    with ThreadPoolExecutor(4) as pool:
        crashes = list(pool.map(crash, folders, range(CRASHES)))
    assert [made for made in crashes if not made.as_found] == []
    assert sum(made.changed for made in crashes) >= CRASHES // 4, Counter(map(str, crashes))


@pytest.mark.parametrize("place", PLACES)
def test_killed_in_between(tmp_path: Path, place: str) -> None:
    """Killed right before or after the journal is written, the limit is set, or the journal is cleared."""
    with driver(tmp_path, 1, place) as process:
        assert process.wait(30) == -signal.SIGKILL
    assert as_found(tmp_path)


def until_changed(folder: Path, process: subprocess.Popen[str], *, but: int = 0) -> int:
    """Lets a driver that waits go on until it has set a limit, under a watchdog that is not ``but``; the watchdog."""
    assert process.stdin is not None
    while True:
        word = line(process)
        if word.isdigit() and int(word) != but and limits_w(folder) != FOUND_W:
            return int(word)
        if word != "begun":
            go(process)


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def killed_with_watchdog(folder: Path, seed: int) -> Mapping[str, float]:
    """Both killed while a limit is set; what is in force then."""
    with driver(folder, seed, "step") as process:
        watchdog = until_changed(folder, process)
        pids = [watchdog, process.pid]
        for pid in pids if seed % 2 else reversed(pids):
            os.kill(pid, signal.SIGKILL)
        process.wait(30)
    for uuid in UUIDS:
        GpuLock(folder / "state/knobs", uuid, wait_s=30).release()
    return limits_w(folder)


def test_restore_by_hand(tmp_path: Path) -> None:
    """With the watchdog killed too, ``rejoule restore`` puts back what is left changed, and says so once."""
    assert killed_with_watchdog(tmp_path, 2) != FOUND_W
    command = [sys.executable, "-m", "rejoule.replay", "restore"]
    env = {**os.environ, **environment(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert "put back" in done.stdout and as_found(tmp_path)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert "Nothing to restore" in done.stdout


def test_next_experiment_puts_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left changed is put back before the next experiment takes it for what it found."""
    assert killed_with_watchdog(tmp_path, 3) != FOUND_W
    with opened(tmp_path, monkeypatch) as nvml, Knobs(nvml):
        assert limits_w(tmp_path) == FOUND_W
    assert as_found(tmp_path)


def test_not_while_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A living experiment's knobs are not put back under its feet."""
    with driver(tmp_path, 4, "step") as process:
        until_changed(tmp_path, process)
        with opened(tmp_path, monkeypatch):
            left = restore_journaled(tmp_path / "state/knobs")
        assert left and all(str(process.pid) in (gpu.left or "") for gpu in left)
        assert limits_w(tmp_path) != FOUND_W
        process.kill()
        assert as_found(tmp_path)


def test_watchdog_killed_first(tmp_path: Path) -> None:
    """An experiment whose watchdog was killed gets another one before its next change."""
    with driver(tmp_path, 5, "step") as process:
        watchdog = until_changed(tmp_path, process)
        os.kill(watchdog, signal.SIGKILL)
        go(process)
        until_changed(tmp_path, process, but=watchdog)
        os.kill(process.pid, signal.SIGKILL)
        assert as_found(tmp_path)
