"""A server process with everything below it, held through its supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from rejoule.replay.vllm.server import supervisor
from rejoule.traces.errors import RejouleError

MARK = "REJOULE_SERVER"
"""Environment variable that every process of a server is born with, set to the server's id."""
KILL_MARGIN_S = 30.0
TCP_LISTEN = "0A"


class SupervisedProcess:
    """Runs a command, and everything that it starts, until ``stop``, or until this process ends in whatever way."""

    def __init__(self, server_id: str) -> None:
        self._id = server_id
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._grace_s = 0.0
        self._unread = b""
        self._cleaned = False
        self._begun = asyncio.Event()
        self._exited = asyncio.Event()
        self._gone = asyncio.Event()
        self._failed: str | None = None
        self.pid: int | None = None
        """Of the server, which leads a process group of the same number."""
        self.returncode: int | None = None
        """As ``subprocess`` has it: negative is the signal that killed it."""

    @property
    def running(self) -> bool:
        return self._begun.is_set() and not self._exited.is_set()

    async def start(self, argv: Sequence[str], env: Mapping[str, str], log: Path, *, grace_s: float) -> None:
        """Starts ``argv`` with exactly ``env``, writing to the end of ``log``. Raises RejouleError."""
        order = {"argv": list(argv), "env": {**env, MARK: self._id}, "log": str(log), "grace_s": grace_s}
        self._grace_s = grace_s
        with log.open("ab") as file:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__, str(log)],  # the log is for readers of ps
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,
            )
        assert self._supervisor.stdin is not None and self._supervisor.stdout is not None
        os.set_blocking(self._supervisor.stdout.fileno(), False)
        asyncio.get_running_loop().add_reader(self._supervisor.stdout.fileno(), self._hear)
        with suppress(OSError):  # of a supervisor that died at once; the reader tells
            self._supervisor.stdin.write(json.dumps(order).encode() + b"\n")
            self._supervisor.stdin.flush()
        await self._begun.wait()
        if self._failed is not None:
            await self.stop()
            raise RejouleError(f"cannot run {argv[0]}: {self._failed}", "check the interpreter of the server")

    def listens_on(self, port: int) -> bool:
        """Whether it is the server that accepts connections on a port of this machine."""
        assert self.pid is not None
        wanted = {f"socket:[{inode}]" for inode in _listeners(port)}
        for pid in _in_group(self.pid):
            with suppress(OSError):
                if any(_target(fd) in wanted for fd in Path(f"/proc/{pid}/fd").iterdir()):
                    return True
        return False

    async def exited(self) -> int | None:
        """Waits until the server has ended; its status."""
        await self._exited.wait()
        return self.returncode

    async def stop(self) -> None:
        """Ends the server; returns once no process of it is left. Raises RejouleError if some cannot be killed."""
        self.let_go()
        if self._supervisor is None:
            return
        try:
            async with asyncio.timeout(self._grace_s + KILL_MARGIN_S):
                await self._gone.wait()
        except TimeoutError:
            raise RejouleError(
                f"processes of server {self.pid} do not end, although they were killed",
                f"they end with what they wait for, a driver or a disk; see: ps -o pid,stat,cmd -g {self.pid}",
            ) from None
        if not self._cleaned and self.pid is not None:
            await asyncio.to_thread(kill_without_supervisor, self.pid, self._id)

    def let_go(self) -> None:
        """Tells the supervisor to end the server, without waiting for it."""
        if self._supervisor is not None and self._supervisor.stdin is not None and not self._supervisor.stdin.closed:
            with suppress(OSError):
                self._supervisor.stdin.close()

    def _hear(self) -> None:
        assert self._supervisor is not None and self._supervisor.stdout is not None
        data = os.read(self._supervisor.stdout.fileno(), 1 << 16)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._note(json.loads(line))
        if not data:
            asyncio.get_running_loop().remove_reader(self._supervisor.stdout.fileno())
            self._supervisor.stdout.close()
            self._supervisor.wait()
            if not self._begun.is_set():
                self._note({"failed": "its supervisor died"})
            self._exited.set()
            self._gone.set()

    def _note(self, said: Mapping[str, Any]) -> None:
        if "started" in said:
            self.pid = int(said["started"])
            self._begun.set()
        if "failed" in said:
            self._failed = str(said["failed"])
            self._begun.set()
        if "exited" in said:
            self.returncode = int(said["exited"])
            self._exited.set()
        if "gone" in said:
            self._cleaned = True


def kill_without_supervisor(group: int, server_id: str, *, patience_s: float = KILL_MARGIN_S) -> None:
    """Kills what is left of a server whose supervisor was killed: its process group, and whoever bears its mark."""
    deadline_s = monotonic() + patience_s
    while (left := _in_group(group) | marked(server_id)) and monotonic() < deadline_s:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        sleep(0.05)


def marked(server_id: str) -> set[int]:
    """Processes that were born with a server's mark and have not overwritten it."""
    mark = f"{MARK}={server_id}".encode()
    found = set()
    for pid in _processes():
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
        except OSError:
            continue
    return found


def _in_group(group: int) -> set[int]:
    found = set()
    for pid in _processes():
        try:
            state, _, its_group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(its_group) == group and state != "Z":
            found.add(pid)
    return found


def _listeners(port: int) -> set[str]:
    """Inodes of the sockets that listen on a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[3] == TCP_LISTEN and int(row[1].rpartition(":")[2], 16) == port}


def _target(link: Path) -> str:
    with suppress(OSError):
        return str(link.readlink())
    return ""


def _processes() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
