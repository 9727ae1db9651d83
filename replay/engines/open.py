"""Chooses the engine that a configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from rejoule.replay.engine import Engine
from rejoule.replay.exactness.tiers import SALT
from rejoule.replay.policy.acting import URL_OPTION
from rejoule.traces import RejouleError, Trace
from rejoule.traces.run import PARROT, Configuration, Run
from rejoule.traces.run_options import RUN_OPTIONS

if TYPE_CHECKING:
    from rejoule.replay.energy.gpus import GpuSampling, GpuWatch
    from rejoule.replay.engines.vllm import VllmServers
    from rejoule.replay.knobs.gpu_session import GpuSession
    from rejoule.replay.knobs.setting import KnobRefused, Setting

OF_A_URL: Final = ("tier", SALT, URL_OPTION, *RUN_OPTIONS)
"""Options of a configuration whose engine is a server that is already running."""


def check_engine(configuration: Configuration) -> None:
    """Raises RejouleError if a configuration asks an engine for what it cannot do."""
    if configuration.engine in ("sim", "vllm") and SALT in configuration.options:
        raise RejouleError(
            f"salt is for servers that are already running; {configuration.engine} begins each run with a cold cache",
            "leave it out",
        )
    if configuration.engine == "sim":
        from rejoule.replay.engines.sim import check_sim

        check_sim(configuration)
        return
    if configuration.engine == "vllm":
        from rejoule.replay.engines.vllm import check_vllm

        check_vllm(configuration)
        return
    if configuration.engine.startswith(PARROT):
        from rejoule.replay.engines.parrot import check_parrot

        check_parrot(configuration)
        return
    from rejoule.replay.engines.http import api_url

    api_url(configuration.engine)
    _check_salt(configuration)
    if unknown := sorted(set(configuration.options) - set(OF_A_URL)):
        raise RejouleError(
            f"{', '.join(unknown)} cannot be set on a server that is already running",
            f"set it where the server is started, or use --engine vllm or sim; a URL takes {', '.join(OF_A_URL)}",
        )
    refused = [
        flag
        for flag, value in (("--max-num-seqs", configuration.max_num_seqs), ("--profile", configuration.profile))
        if value is not None
    ]
    if refused:
        raise RejouleError(
            f"{' and '.join(refused)} cannot be set on a server that is already running",
            "set it where the server is started, or use --engine sim",
        )
    from rejoule.replay.knobs.gpu_session import check_knobs

    check_knobs(configuration)


def _check_salt(configuration: Configuration) -> None:
    given = configuration.options.get(SALT)
    if given not in (None, "prompt"):
        raise RejouleError(f"salt={given} is none", "give salt=prompt, or leave it out")
    if given is not None and configuration.options.get("tier", "lengths") != "lengths":
        raise RejouleError("salt=prompt makes other prompts, so tier lengths is all that it leaves", "leave out tier")


class Engines:
    """The engines of one experiment: those that outlive a run are kept until it ends."""

    def __init__(self, folder: Path, on_progress: Callable[[str], None] = lambda _: None) -> None:
        """``folder`` is where servers that are started keep their logs; ``on_progress`` is told how a start goes."""
        self._folder = folder
        self._on_progress = on_progress
        self._servers: VllmServers | None = None
        self._bench: GpuSession | None = None
        self._sampling: GpuSampling | None = None
        self._bare_w: float | None = None

    async def __aenter__(self) -> Engines:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            if self._servers is not None:
                await self._servers.close()
        finally:
            try:
                if self._sampling is not None:
                    await self._sampling.close()
            finally:
                if self._bench is not None:
                    self._bench.close()

    def prepare(self, configurations: Sequence[Configuration]) -> Mapping[Setting, KnobRefused]:
        """Takes this machine's GPUs if they are needed; the settings of their knobs that are refused, and why."""
        if all(c.engine == "sim" for c in configurations):
            return {}
        from rejoule.replay.knobs.gpu_session import GpuSession

        self._bench = GpuSession(self._on_progress)
        return self._bench.prepare(configurations)

    async def attest(self, run: Run) -> Run:
        """The run with its knobs as they were in force. Raises KnobRefused if they were not to its end."""
        return run if self._bench is None else await self._bench.attest(run)

    async def open(self, configuration: Configuration, trace: Trace) -> Engine:
        """An engine for one run, its knobs in force, ready to start. Raises RejouleError if it cannot be had."""
        if configuration.engine == "sim":
            return await open_engine(configuration, trace)
        watch = await self._watch(configuration)
        if configuration.engine != "vllm":
            await self._set_knobs(configuration)
            return await open_engine(configuration, trace, watch)
        from rejoule.replay.engines.vllm import VllmServers

        if self._servers is None:
            self._bare_w = await self._idle_w(configuration, watch)
            self._servers = VllmServers(
                self._folder, lambda p: self._on_progress(f"vLLM: {p.phase}, {p.elapsed_s:.0f} s")
            )
        return await self._servers.engine(configuration, trace, self._set_knobs, watch=watch, bare_w=self._bare_w)

    async def cool(self, configuration: Configuration) -> None:
        """Waits until this machine's GPUs are about as cool as when the first run began."""
        if self._bench is not None:
            await self._bench.cool(configuration)

    async def _watch(self, configuration: Configuration) -> GpuWatch | None:
        from rejoule.replay.energy.gpus import GpuSampling
        from rejoule.replay.knobs.gpu_session import on_this_machine

        if not on_this_machine(configuration) or configuration.options.get("sampler") is False:
            return None
        if self._sampling is None:
            self._sampling = GpuSampling(self._folder.with_name("samples"))
        return await self._sampling.watch()

    async def _idle_w(self, configuration: Configuration, watch: GpuWatch | None) -> float | None:
        from rejoule.replay.protocol.idle import settled_idle_w
        from rejoule.replay.protocol.options import protocol_options

        idle_s = protocol_options(configuration.options).idle_s
        if watch is None or not idle_s:
            return None
        self._on_progress("idle power without a server")
        return await settled_idle_w(watch.power_w, idle_s)

    async def _set_knobs(self, configuration: Configuration) -> None:
        if self._bench is not None:
            await self._bench.ready(configuration)


async def open_engine(configuration: Configuration, trace: Trace, watch: GpuWatch | None = None) -> Engine:
    """An engine that needs nothing beyond its run, ready to start. Raises RejouleError if it cannot be had."""
    if configuration.engine == "sim":
        from rejoule.replay.engines.sim import SimEngine

        return SimEngine(configuration, trace)
    if configuration.engine.startswith(PARROT):
        from rejoule.replay.engines.parrot import ParrotEngine

        return await ParrotEngine.connect(configuration, trace, watch=watch)
    from rejoule.replay.engines.http import HttpEngine
    from rejoule.replay.exactness.tiers import check_texts, check_tokens

    if configuration.options.get("tier") == "spliced":
        check_tokens(trace, "the trace")
    if configuration.options.get(SALT) == "prompt":
        check_texts(trace)
    return await HttpEngine.connect(configuration, trace, watch=watch)
