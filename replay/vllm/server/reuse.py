"""One server at a time: kept for as long as trials ask for the same engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from rejoule.replay.vllm.server.installation import Vllm
from rejoule.replay.vllm.server.options import ServerOptions, server_key
from rejoule.replay.vllm.server.server import ManagedServer, Progress
from rejoule.traces.errors import RejouleError


class ReusedServer:
    """``async with ReusedServer(folder) as servers``, then ``await servers.get(options)`` for each trial.

    A server is started where the options need another one than the last, or that one died. Logs are in ``folder``,
    one for each engine configuration.
    """

    def __init__(
        self, folder: Path, *, vllm: Vllm | None = None, on_progress: Callable[[Progress], None] = lambda _: None
    ) -> None:
        self._folder = folder
        self._vllm = vllm
        self._on_progress = on_progress
        self._key = ""
        self._server: ManagedServer | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def get(self, options: ServerOptions) -> ManagedServer:
        """The server of ``options``, answering. Raises RejouleError if it does not start."""
        key = server_key(options)
        if self._server is not None and self._key == key and self._server.alive():
            return self._server
        await self.close()
        log = self._folder / f"vllm-{key}.log"
        self._server = ManagedServer(options, log, vllm=self._vllm, on_progress=self._on_progress)
        await self._server.start()
        self._key = key
        return self._server

    async def close(self) -> None:
        """Ends the server, if there is one."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop()


async def with_blocks_pinned(options: ServerOptions, servers: ReusedServer) -> ServerOptions:
    """``options`` with as many KV blocks as fit at the sweep's largest batch size, so that they fit at every other.

    Starts a server to find out, unless the number is given.
    """
    if options.num_gpu_blocks is not None:
        return options
    largest = options.largest_num_seqs or options.max_num_seqs
    server = await servers.get(replace(options, max_num_seqs=largest, largest_num_seqs=largest))
    blocks = (await server.describe())["num_gpu_blocks"]
    if not isinstance(blocks, int):
        raise RejouleError("vLLM does not tell how many KV blocks it has", "give num_gpu_blocks")
    return replace(options, num_gpu_blocks=blocks)
