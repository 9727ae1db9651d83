"""Chooses the engine that a configuration names."""

from __future__ import annotations

from rejoule.replay.engines.base import Engine
from rejoule.traces import RejouleError, Trace
from rejoule.traces.run import Configuration


def check_engine(configuration: Configuration) -> None:
    """Raises RejouleError if a configuration asks an engine for what it cannot do."""
    if configuration.engine == "sim":
        from rejoule.replay.engines.sim import check_sim

        check_sim(configuration)
        return
    if configuration.engine == "vllm":
        raise RejouleError(
            "ReJoule does not start vLLM by itself", "start it with vllm serve, and give its URL as --engine"
        )
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


async def open_engine(configuration: Configuration, trace: Trace) -> Engine:
    """The engine, ready to start. Raises RejouleError if it cannot be had."""
    if configuration.engine == "sim":
        from rejoule.replay.engines.sim import SimEngine

        return SimEngine(configuration, trace)
    from rejoule.replay.engines.http import HttpEngine

    return await HttpEngine.connect(configuration)
