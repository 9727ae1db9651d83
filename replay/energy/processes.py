"""Who else computes on the GPUs: processes that belong neither to ReJoule nor to the server under test."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TCP_LISTEN: Final = "0A"
TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")


@dataclass(frozen=True, slots=True)
class Process:
    parent: int
    group: int


def foreign(on_gpu: Iterable[int], owners: Iterable[int], processes: Mapping[int, Process]) -> tuple[int, ...]:
    """Of the pids that NVML names, those outside the families of ``owners``.

    A family is a process, its group and all that descends from these. In a container NVML may name pids of the host:
    if it names none of this machine's at all, nothing can be told and nobody is accused.
    """
    family = _family(set(owners), processes)
    named = set(on_gpu)
    return tuple(sorted(named - family)) if named & processes.keys() else ()


def foreign_processes(on_gpu: Iterable[int], port: int | None) -> tuple[int, ...]:
    """The same on this machine, for a server that listens on ``port``; empty if nobody seems to listen there."""
    listeners = [] if port is None else listening(port)
    if port is not None and not listeners:
        return ()
    return foreign(on_gpu, [os.getpid(), *listeners], running())


def running() -> dict[int, Process]:
    """Every process that this one can see."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError, ValueError):
                _, parent, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
                found[int(folder.name)] = Process(int(parent), int(group))
    return found


def listening(port: int) -> list[int]:
    """Processes that hold a socket on which a port of this machine is listened to; only those of this user."""
    wanted = {f"socket:[{inode}]" for table in TABLES for inode in _inodes(Path(table), port)}
    return [pid for pid in running() if wanted and wanted & _links(pid)]


def _family(members: set[int], processes: Mapping[int, Process]) -> set[int]:
    groups = {processes[pid].group for pid in members if pid in processes}
    members = members | {pid for pid, process in processes.items() if process.group in groups}
    while grown := {pid for pid, process in processes.items() if process.parent in members} - members:
        members |= grown
    return members


def _inodes(table: Path, port: int) -> set[str]:
    if not table.exists():
        return set()
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == TCP_LISTEN and int(row[1].rpartition(":")[2], 16) == port}


def _links(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(link.readlink()))
    return found
