"""A vLLM server that ReJoule starts, watches and ends."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import aiohttp

from rejoule.replay.vllm.server.command import HOST, Launch, command
from rejoule.replay.vllm.server.describe import describe
from rejoule.replay.vllm.server.installation import Vllm, find_vllm
from rejoule.replay.vllm.server.log import phase_of, port_taken, reason_of
from rejoule.replay.vllm.server.options import ServerOptions
from rejoule.replay.vllm.server.process import SupervisedProcess
from rejoule.traces.errors import RejouleError

PORT_ATTEMPTS = 4
HEALTH_EVERY_S = 0.1
REPORT_EVERY_S = 1.0
REQUEST_TIMEOUT_S = 120.0
LOG_TAIL_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the start of a server is."""

    phase: str
    elapsed_s: float


class ManagedServer:
    """``async with ManagedServer(options, log) as server``: inside, the server answers at ``server.url``.

    However the block is left, also by kill -9 of this process, no process of the server stays behind.
    """

    def __init__(
        self,
        options: ServerOptions,
        log: Path,
        *,
        vllm: Vllm | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """``log`` is kept, and added to if it exists; ``vllm`` is looked up if not given."""
        self.options = options
        self.log = log
        self.launch: Launch
        self.url = ""
        """Root of the server, without ``/v1``."""
        self.http: aiohttp.ClientSession
        self._vllm = vllm
        self._on_progress = on_progress
        self._process: SupervisedProcess | None = None
        self._log_begins = 0
        self._stopping = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Returns once the server answers. Raises RejouleError with vLLM's own reason if it does not start."""
        if sys.platform != "linux":
            raise RejouleError("ReJoule starts vLLM servers on Linux only", "start one, and give its URL as --engine")
        if self.options.model.startswith(("/", "./", "../", "~")) and not Path(self.options.model).exists():
            raise RejouleError(f"the model {self.options.model} does not exist", "give a folder, or a name on the hub")
        if self._vllm is None:
            self._vllm = await asyncio.to_thread(find_vllm, self.options)
        self.http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S))
        try:
            began_s = monotonic()
            for attempt in range(1, PORT_ATTEMPTS + 1):
                if await self._attempt(self._vllm, began_s, last=attempt == PORT_ATTEMPTS):
                    return
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends the server; returns once no process of it is left. May be called twice."""
        self._stopping = True
        if self._process is not None:
            self._process.let_go()
        if hasattr(self, "http"):
            await self.http.close()
        if self._process is not None:
            await self._process.stop()

    def alive(self) -> bool:
        """Whether the server's main process runs."""
        return self._process is not None and self._process.running

    @property
    def returncode(self) -> int | None:
        return None if self._process is None else self._process.returncode

    def reason(self) -> str | None:
        """Why the server died by itself, in one line; ``None`` if it did not."""
        if self._process is None or self.alive() or self._stopping:
            return None
        return reason_of(self._lines(), self.returncode)

    async def died(self) -> RejouleError:
        """Waits until the server has ended, and returns what to tell the user."""
        assert self._process is not None
        await self._process.exited()
        return RejouleError(
            f"vLLM died: {self.reason() or 'it was stopped'}",
            f"its log is {self.log}; repeat the command: finished runs are kept, the unfinished one is repeated",
        )

    async def describe(self) -> Mapping[str, Any]:
        """What the server is: see ``describe``."""
        return await describe(self.http, self.url, self.launch)

    async def _attempt(self, vllm: Vllm, began_s: float, *, last: bool) -> bool:
        """One start; false if its port was taken meanwhile."""
        port = _free_port()
        self.launch = command(self.options, vllm, port, os.environ)
        self.url = f"http://{HOST}:{port}"
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.touch()
        except OSError as error:
            raise RejouleError(f"cannot write {self.log}: {error.strerror}", "choose another folder") from None
        self._log_begins = self.log.stat().st_size
        self._process = SupervisedProcess(uuid.uuid4().hex)
        env = {**os.environ, **self.launch.env}
        await self._process.start(self.launch.argv, env, self.log, grace_s=self.options.grace_s)
        if await self._ready(self._process, began_s):
            if self._process.listens_on(port):
                return True
            taken = True  # by somebody who answered before this server could
        else:
            taken = port_taken(self._lines())
        if taken and not last:
            await self._process.stop()
            return False
        reason = self.reason() or "others took every port that it was given"
        raise RejouleError(f"vLLM did not start: {reason}", f"its log is {self.log}")

    async def _ready(self, process: SupervisedProcess, began_s: float) -> bool:
        """Whether the server came up, rather than ended."""
        told = Progress("starting", monotonic() - began_s)
        self._on_progress(told)
        while process.running:
            if await self._healthy():
                return process.running
            elapsed_s = monotonic() - began_s
            phase = self._phase()
            if phase != told.phase or elapsed_s - told.elapsed_s >= REPORT_EVERY_S:
                told = Progress(phase, elapsed_s)
                self._on_progress(told)
            if elapsed_s > self.options.ready_timeout_s:
                raise RejouleError(
                    f"vLLM did not answer within {self.options.ready_timeout_s:g} s of its start; it was {phase}",
                    f"its log is {self.log}; allow more with ready_timeout_s",
                )
            with suppress(TimeoutError):
                async with asyncio.timeout(HEALTH_EVERY_S):
                    await process.exited()
        return False

    async def _healthy(self) -> bool:
        try:
            async with self.http.get(f"{self.url}/health", timeout=aiohttp.ClientTimeout(total=5)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _phase(self) -> str:
        found = (phase_of(line) for line in reversed(self._lines()))
        return next((phase for phase in found if phase), "starting")

    def _lines(self) -> list[str]:
        with self.log.open("rb") as file:
            file.seek(max(self._log_begins, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
