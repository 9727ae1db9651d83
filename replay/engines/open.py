"""Chooses the engine that a configuration names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rejoule.replay.engines.base import Engine
from rejoule.traces import RejouleError, Trace
from rejoule.traces.run import Configuration

if TYPE_CHECKING:
    from rejoule.replay.engines.vllm import VllmServers


def check_engine(configuration: Configuration) -> None:
    """Raises RejouleError if a configuration asks an engine for what it cannot do."""
    if configuration.engine == "sim":
        from rejoule.replay.engines.sim import check_sim

        check_sim(configuration)
        return
    if configuration.engine == "vllm":
        from rejoule.replay.engines.vllm import check_vllm

        check_vllm(configuration)
        return
    from rejoule.replay.engines.http import api_url

    api_url(configuration.engine)
    refused = [
        flag
        for flag, value in (
            ("--max-num-seqs", configuration.max_num_seqs),
            ("--power-cap", configuration.power_cap_w),
            ("--sm-clock", configuration.sm_clock_mhz),
            ("--profile", configuration.profile),
        )
        if value is not None
    ]
    if refused:
        raise RejouleError(
            f"{' and '.join(refused)} cannot be set on a server that is already running",
            "set it where the server is started, or use --engine sim",
        )


class Engines:
    """The engines of one experiment: those that outlive a run are kept until it ends."""

    def __init__(self, folder: Path, on_progress: Callable[[str], None] = lambda _: None) -> None:
        """``folder`` is where servers that are started keep their logs; ``on_progress`` is told how a start goes."""
        self._folder = folder
        self._on_progress = on_progress
        self._servers: VllmServers | None = None

    async def __aenter__(self) -> Engines:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._servers is not None:
            await self._servers.close()

    async def open(self, configuration: Configuration, trace: Trace) -> Engine:
        """An engine for one run, ready to start. Raises RejouleError if it cannot be had."""
        if configuration.engine != "vllm":
            return await open_engine(configuration, trace)
        from rejoule.replay.engines.vllm import VllmServers

        if self._servers is None:
            self._servers = VllmServers(
                self._folder, lambda p: self._on_progress(f"vLLM: {p.phase}, {p.elapsed_s:.0f} s")
            )
        return await self._servers.engine(configuration, trace)


async def open_engine(configuration: Configuration, trace: Trace) -> Engine:
    """An engine that needs nothing beyond its run, ready to start. Raises RejouleError if it cannot be had."""
    if configuration.engine == "sim":
        from rejoule.replay.engines.sim import SimEngine

        return SimEngine(configuration, trace)
    from rejoule.replay.engines.http import HttpEngine
    from rejoule.replay.tiers import check_tokens

    if configuration.options.get("tier") == "spliced":
        check_tokens(trace, "the trace")
    return await HttpEngine.connect(configuration)
