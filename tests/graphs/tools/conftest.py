"""Users who run programs, and what is outside for them to reach."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rejoule.graphs.tools.walls import find_jail

Run = Callable[..., dict[str, Any]]
WORKER = Path(__file__).with_name("worker.py")


class Worker:
    """A process of some kind that runs programs."""

    def __init__(self, kind: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), kind], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "OPENAI_API_KEY": "very-secret"},
        )  # fmt: skip

    def run(self, code: str, *, jailed: bool = True, **limits: float) -> dict[str, Any]:
        """What became of the program: a SandboxResult, or an ``error``."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"code": code, "jailed": jailed, "limits": limits}) + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="session")
def worker() -> Iterator[Callable[[str], Worker]]:
    """One of each kind, made when it is first asked for."""
    made: dict[str, Worker] = {}

    def get(kind: str) -> Worker:
        if kind in ("root", "container") and os.geteuid() != 0:
            pytest.skip("only root has these privileges to lose")
        if kind not in made:
            made[kind] = Worker(kind)
        return made[kind]

    yield get
    for each in made.values():
        each.close()


@pytest.fixture(params=["root", "user"])
def jailer(request: pytest.FixtureRequest, worker: Callable[[str], Worker]) -> Worker:
    """Who can have a jail: root, and an ordinary user."""
    if not find_jail().there:
        pytest.skip(str(find_jail().trouble))
    return worker(request.param)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[dict[str, object]]:
    """Files, servers, a terminal and a process that anybody may reach who is not jailed."""
    secret = tmp_path / "secret"
    for file in (secret, tmp_path / "victim"):
        file.write_text("x")
        file.chmod(0o666)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o777)
    os.mkfifo(tmp_path / "fifo", 0o666)
    with subprocess.Popen(["sleep", "600"]) as process, ExitStack() as held:
        held.callback(process.kill)
        stream, datagram, abstract = tmp_path / "stream", tmp_path / "datagram", f"rejoule-{os.getpid()}"
        port = 0
        for family, kind, address in (
            (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            (socket.AF_UNIX, socket.SOCK_STREAM, str(stream)),
            (socket.AF_UNIX, socket.SOCK_DGRAM, str(datagram)),
            (socket.AF_UNIX, socket.SOCK_STREAM, f"\0{abstract}"),
        ):
            server = held.enter_context(socket.socket(family, kind))
            server.bind(address)
            if kind is socket.SOCK_STREAM:
                server.listen()
            port = port or server.getsockname()[1]
        stream.chmod(0o666)
        datagram.chmod(0o666)
        held.callback(os.close, os.open(tmp_path / "fifo", os.O_RDWR))
        leader, terminal = os.openpty()
        held.callback(os.close, leader)
        held.callback(os.close, terminal)
        yield {
            "folder": str(tmp_path), "secret": str(secret), "port": port, "stream": str(stream),
            "datagram": str(datagram), "abstract": abstract, "fifo": str(tmp_path / "fifo"),
            "terminal": os.ttyname(terminal), "pid": process.pid, "host": socket.gethostname(),
        }  # fmt: skip
