"""vLLM servers that ReJoule starts: exact tokens, a cold cache for every run, and the engine watched from inside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from rejoule.replay.energy.gpus import GpuWatch
from rejoule.replay.energy.nvml import has_gpu
from rejoule.replay.engine import Measured, RealServer
from rejoule.replay.engines.http import HttpEngine
from rejoule.replay.exactness.cache_verdict import Caches
from rejoule.replay.exactness.models import Models, models_for
from rejoule.replay.exactness.splicing import Spliced
from rejoule.replay.exactness.tiers import Lengths, Rules, Tokens, check_tokens
from rejoule.replay.knobs.gpu_session import check_knobs
from rejoule.replay.policy.acting import server_options
from rejoule.replay.vllm.plugin.arguments import server_arguments
from rejoule.replay.vllm.plugin.forcing import Forcing
from rejoule.replay.vllm.plugin.steps import engines_between, steps_between
from rejoule.replay.vllm.server import (
    ColdCache,
    ManagedServer,
    Plugin,
    Progress,
    ReusedServer,
    ServerOptions,
    Vllm,
    find_vllm,
    reset_prefix_cache,
    server_key,
)
from rejoule.traces import RejouleError, Trace
from rejoule.traces.run import Configuration
from rejoule.traces.run_options import RUN_OPTIONS, WATCHED

OWN_OPTIONS: Final = (
    "model", "python", "tier", "num_gpu_blocks", "largest_num_seqs", *WATCHED, *RUN_OPTIONS,
)  # fmt: skip
"""Options of a configuration that are ReJoule's; all others are vLLM's own."""
WHOLE: Final = ("configuration", "environment", "system")
"""vLLM's own account of itself."""
TIERS: Final = ("tokens", "spliced", "lengths")


def check_vllm(configuration: Configuration) -> None:
    """Raises RejouleError for a configuration that lacks a model or asks for what is not there."""
    options = configuration.options
    if not options.get("model"):
        raise RejouleError("--engine vllm needs a model", "give it with --option model=NAME_OR_FOLDER")
    if options.get("tier", "tokens") not in TIERS:
        raise RejouleError(f"no tier {options['tier']!r}", f"choose one of {', '.join(TIERS)}")
    if configuration.profile is not None:
        raise RejouleError("--profile belongs to the simulated engine", "leave it out, or use --engine sim")
    check_knobs(configuration)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a configuration's server is started with."""

    options: ServerOptions
    forcing: Forcing | None
    tap: Path | None


def prepared(configuration: Configuration, vllm: Vllm, *, device: Literal["cpu", "cuda"], folder: Path) -> Prepared:
    """The server that a configuration needs: pure."""
    given = server_options(configuration)
    own = ServerOptions(
        model=str(given["model"]),
        python=given.get("python"),
        max_num_seqs=configuration.max_num_seqs,
        largest_num_seqs=given.get("largest_num_seqs"),
        num_gpu_blocks=given.get("num_gpu_blocks"),
        arguments={k: v for k, v in given.items() if k not in OWN_OPTIONS},
        ready_timeout_s=float(given.get("ready_timeout_s", ServerOptions("").ready_timeout_s)),
    )
    forced = given.get("tier", "tokens") == "tokens"
    tap = folder / f"steps-{server_key(own)}.tap" if given.get("step_tap", True) else None
    plugin = server_arguments(vllm.version, device=device, forced_tokens=forced, step_tap=tap)
    return Prepared(replace(own, plugin=Plugin(plugin.arguments, plugin.environment)), plugin.forcing, tap)


async def no_knobs(_: Configuration) -> None:
    """Leaves the GPUs as they are."""


class VllmServers:
    """The servers of one experiment, one at a time. Logs and step taps are kept in ``folder``."""

    def __init__(self, folder: Path, on_progress: Callable[[Progress], None] = lambda _: None) -> None:
        self._folder = folder
        self._servers = ReusedServer(folder, on_progress=on_progress)
        self._found: dict[str | None, Vllm] = {}

    async def engine(
        self,
        configuration: Configuration,
        trace: Trace,
        on_up: Callable[[Configuration], Awaitable[None]] = no_knobs,
        *,
        watch: GpuWatch | None = None,
        bare_w: float | None = None,
    ) -> HttpEngine:
        """An engine for one run: its server answers, ``on_up`` has set its knobs, and its prefix cache is cold.

        ``watch`` measures it; ``bare_w`` is what the GPUs drew before any server was started.
        """
        python = configuration.options.get("python")
        if python not in self._found:
            self._found[python] = find_vllm(ServerOptions(model="", python=python))
        device: Literal["cpu", "cuda"] = "cuda" if has_gpu() else "cpu"
        self._folder.mkdir(parents=True, exist_ok=True)
        ready = prepared(configuration, self._found[python], device=device, folder=self._folder)
        if configuration.options.get("tier", "tokens") != "lengths":
            check_tokens(trace, "the trace")
        models = models_for(trace, [configuration.options["model"]], configuration.options)
        server = await self._servers.get(ready.options)
        await on_up(configuration)
        described = await server.describe()
        # Its whole configuration is long and the same for all runs of a server: it is kept once, beside the log.
        whole = {name: described[name] for name in WHOLE if name in described}
        server.log.with_suffix(".json").write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
        described = {name: value for name, value in described.items() if name not in WHOLE}
        cold = await reset_prefix_cache(server.http, server.url, described)
        rules = _rules(configuration, replace(models, served=(str(described["model"]),)), ready.forcing)
        engine = await VllmEngine.on(server, configuration, trace, rules, described, cold, ready.tap, watch)
        engine.bare_w = bare_w
        return engine

    async def close(self) -> None:
        await self._servers.close()


async def recording_server(
    options: Mapping[str, Any], folder: Path, on_progress: Callable[[Progress], None] = lambda _: None
) -> ManagedServer:
    """A server to record from, answering: no token is forced, and no step tapped."""
    configuration = Configuration(engine="vllm", options={**options, "tier": "lengths", "step_tap": False})
    vllm = find_vllm(ServerOptions(model="", python=options.get("python")))
    ready = prepared(configuration, vllm, device="cuda" if has_gpu() else "cpu", folder=folder)
    server = ManagedServer(ready.options, folder / "vllm.log", vllm=vllm, on_progress=on_progress)
    await server.start()
    return server


def _rules(configuration: Configuration, models: Models, forcing: Forcing | None) -> Rules:
    if forcing is not None:
        return Tokens(configuration, models, forcing)
    if configuration.options.get("tier") == "spliced":
        return Spliced(configuration, models)
    return Lengths(configuration, models, exact_lengths=True)


class VllmEngine(HttpEngine):
    """A server of ReJoule's own, for one run."""

    _server: ManagedServer
    _described: Mapping[str, Any]
    _cold: ColdCache
    _tap: Path | None
    bare_w: float | None = None
    """Idle power of the GPUs before any server was started."""

    @classmethod
    async def on(
        cls,
        server: ManagedServer,
        configuration: Configuration,
        trace: Trace,
        rules: Rules,
        described: Mapping[str, Any],
        cold: ColdCache,
        tap: Path | None,
        watch: GpuWatch | None = None,
    ) -> VllmEngine:
        engine = await cls.connect(configuration, trace, url=f"{server.url}/v1", rules=rules, watch=watch)
        engine._server, engine._described, engine._cold, engine._tap = server, described, cold, tap
        return engine

    @property
    def real_server(self) -> RealServer | None:
        # Its cache is emptied and found empty before each run.
        found = super().real_server
        return None if found is None else replace(found, isolates_runs=True, bare_w=self.bare_w)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {**super().identity, **self._described}

    async def finish(self) -> Measured:
        measured = await super().finish()
        engines = self._described.get("data_parallel_size") or 1
        # Several engines step side by side: the steps of one are not the run's.
        steps = None if self._tap is None or engines > 1 else steps_between(self._tap, self._origin, self._end)
        engine = {**measured.engine, **self._described, "cold_cache": self._cold.cold, "cold_proof": self._cold.proof}
        noticed = () if self._cold.cold else (f"the prefix cache was not cold: {self._cold.proof}",)
        cached = self._cold.cold and self._described.get("prefix_caching") is not False and self.tier == "tokens"
        caches = self._caches(engines) if cached else None
        return replace(measured, steps=steps, engine=engine, caches=caches, violations=noticed)

    def _caches(self, engines: int) -> Caches | None:
        size = self._described.get("block_size")
        if size is None:
            return None
        if engines == 1:
            return Caches(size, (self._described.get("num_gpu_blocks"),))
        if self._tap is None or (found := engines_between(self._tap, engines, self._origin, self._end)) is None:
            return Caches(size, (None,) * engines)
        return Caches(size, *found)

    async def _death(self) -> RejouleError | None:
        return None if self._server.alive() else await self._server.died()
