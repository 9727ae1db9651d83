"""Runs a client once against the mock server, and says what it cost and what the server saw of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from threading import Event, Thread
from time import sleep, time
from urllib.request import urlopen

import orjson

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of one client. Times are the server's; ``None`` does not apply."""

    status: int
    requests: int
    rate: float
    """Requests a second, from the first to the last that the server saw."""
    first_s: float
    """From the start of the command to its first request."""
    cpu_ms: float
    """CPU time of the client for each request, its start included, in all its processes."""
    peak_mb: float
    """Resident memory of all its processes together, at its highest."""
    hop_p50_ms: float | None
    """From an answer's last byte to the next request, for one request at a time."""
    hop_p99_ms: float | None
    late_p50_ms: float | None
    """Arrival against schedule, counted from the request that was least late."""
    late_p99_ms: float | None
    connections: int
    machine_late_p99_ms: float | None
    """How late the machine itself woke a process that does nothing else, 100 times a second, meanwhile."""


class Mock:
    """The mock server, running."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str) -> dict[str, object]:
        with urlopen(self.url + path, timeout=30) as answer:
            found: dict[str, object] = orjson.loads(answer.read())
            return found


@contextmanager
def mock_server(python: Path) -> Iterator[Mock]:
    """Runs with ``python``, which should have uvloop."""
    with Popen([python, Path(__file__).with_name("mock_server.py")], stdout=PIPE) as server:
        assert server.stdout is not None
        try:
            yield Mock(f"http://127.0.0.1:{int(server.stdout.readline())}")
        finally:
            server.terminate()


def measure(
    command: Sequence[str | Path],
    mock: Mock,
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
    due_s: Sequence[float] | None = None,
    one_at_a_time: bool = False,
    timeout_s: float = 600.0,
) -> Measurement:
    """Runs ``command`` in ``folder`` to its end; ``due_s`` is the schedule that it was to keep."""
    mock.ask("/reset")
    began = time()
    with log.open("wb") as out:
        client = Popen(
            list(map(str, command)), cwd=folder, stdin=DEVNULL, stdout=out, stderr=STDOUT,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
        tree = _Tree(client.pid)
        machine = _Sleeper() if due_s is not None else None
        killer = Event()
        Thread(target=_kill_late, args=(client, killer, timeout_s), daemon=True).start()
        _, status, used = os.wait4(client.pid, 0)
        killer.set()
        client.returncode = os.waitstatus_to_exitcode(status)
    tree.stop()
    machine_late = machine.stop() if machine is not None else None
    seen = mock.ask("/stats")
    arrivals, ends = _floats(seen["arrivals_s"]), _floats(seen["ends_s"])
    count = len(arrivals)
    cpu_s = max(used.ru_utime + used.ru_stime, tree.cpu_s)
    hops = [b - a for a, b in zip(ends, arrivals[1:], strict=False)] if one_at_a_time else []
    late: list[float] = []
    if due_s is not None and count == len(due_s):
        late = [a - d for a, d in zip(arrivals, due_s, strict=True)]
        late = [x - min(late) for x in late]
    connections = seen["connections"]
    assert isinstance(connections, int)
    return Measurement(
        status=client.returncode,
        requests=count,
        rate=(count - 1) / (arrivals[-1] - arrivals[0]) if count > 1 else 0.0,
        first_s=arrivals[0] - began if count else float("nan"),
        cpu_ms=cpu_s / max(count, 1) * 1e3,
        peak_mb=tree.peak_bytes / 1e6,
        hop_p50_ms=_rank_ms(hops, 0.50),
        hop_p99_ms=_rank_ms(hops, 0.99),
        late_p50_ms=_rank_ms(late, 0.50),
        late_p99_ms=_rank_ms(late, 0.99),
        connections=connections,
        machine_late_p99_ms=machine_late,
    )


class _Sampler(Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = Event()
        self.start()

    def end(self) -> None:
        self._over.set()
        self.join()


class _Tree(_Sampler):
    """Watches a process and all that come from it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak_bytes = 0
        self._cpu_s: dict[int, float] = {}
        super().__init__()

    @property
    def cpu_s(self) -> float:
        return sum(self._cpu_s.values())

    def run(self) -> None:
        looks = 0
        while not self._over.wait(0.02):
            # The kernel's own high-water mark of the first process; wait4 would give that of whoever forked it.
            with suppress(OSError, ValueError, IndexError):
                status = Path(f"/proc/{self.pid}/status").read_text()
                self.peak_bytes = max(self.peak_bytes, int(status.split("VmHWM:")[1].split()[0]) * 1024)
            looks += 1
            if looks % 10:
                continue
            resident = 0
            for pid in _family(self.pid):
                with suppress(OSError, ValueError, IndexError):
                    resident += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    self._cpu_s[pid] = (int(fields[11]) + int(fields[12])) / TICKS
            self.peak_bytes = max(self.peak_bytes, resident)

    def stop(self) -> None:
        self.end()


class _Sleeper:
    """A process that does nothing but keep a schedule of 100 wake-ups a second, and look how late they were."""

    PROGRAM = """
import sys, threading, time
late, over, due = [], threading.Event(), time.monotonic()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
while not over.is_set():
    due += 0.01
    time.sleep(max(0.0, due - time.monotonic()))
    late.append(time.monotonic() - due)
late.sort()
print(late[int(len(late) * 0.99)] * 1e3)
"""

    def __init__(self) -> None:
        self._process = Popen([sys.executable, "-c", self.PROGRAM], stdin=PIPE, stdout=PIPE)

    def stop(self) -> float:
        out, _ = self._process.communicate()
        return float(out)


def _family(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _kill_late(client: Popen[bytes], over: Event, timeout_s: float) -> None:
    if not over.wait(timeout_s):
        client.kill()
        sleep(0.1)


def _floats(value: object) -> list[float]:
    assert isinstance(value, list)
    return [float(v) for v in value]


def _rank_ms(values: Sequence[float], share: float) -> float | None:
    return sorted(values)[ceil(share * len(values)) - 1] * 1e3 if values else None
