"""Brings a real engine to its working state before a run, and takes its idle power before and after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from rejoule.replay.engine import Engine, Measured
from rejoule.replay.protocol.idle import idle_w, settled_idle_w
from rejoule.replay.protocol.options import protocol_options
from rejoule.replay.protocol.warm_up import warm_up
from rejoule.traces import Trace
from rejoule.traces.run import Conditions, Configuration
from rejoule.traces.runs import PlannedRun

OpenEngine = Callable[[Configuration, Trace], Awaitable[Engine]]
Cool = Callable[[Configuration], Awaitable[None]]
State = tuple[str, float | None, float | None]
"""A server, and the power cap and the clock that it runs under."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was done and seen before a run."""

    warm_ups: int | None = None
    loaded_w: float | None = None


class Preparation:
    """The protocol around the runs of one experiment: what is warm is not warmed again.

    An engine in virtual time has no ``real_server``, and nothing is done.
    """

    def __init__(self, on_note: Callable[[str], None] = lambda _: None, cool: Cool | None = None) -> None:
        """``on_note`` is told what is being waited for; ``cool`` waits for the temperature to start from."""
        self._on_note = on_note
        self._cool = cool
        self._warm: State | None = None
        self._loaded_w: dict[State, float | None] = {}

    async def ready(self, trace: Trace, plan: PlannedRun, open_engine: OpenEngine) -> tuple[Engine, Prepared]:
        """An engine for one run, warm, and its idle power with the model loaded."""
        configuration = plan.configuration
        engine = await open_engine(configuration, trace)
        if engine.real_server is None:
            return engine, Prepared()
        options = protocol_options(configuration.options)
        state = (engine.real_server.server, configuration.power_cap_w, configuration.sm_clock_mhz)
        passes = 0
        if options.warm_up_s and engine.real_server.isolates_runs and self._warm != state:
            self._on_note("warming up")
            try:
                passes = await warm_up(
                    engine, trace, configuration, plan.trial, options.warm_up_s, engine.real_server.power_w
                )
            finally:
                await engine.close()
            self._warm = state
            # What the warm-up left in the prefix cache is gone with its engine.
            engine = await open_engine(configuration, trace)
        try:
            prepared = Prepared(passes, await self._loaded(engine, state, options.idle_s))
            if self._cool is not None:
                await self._cool(configuration)
            return engine, prepared
        except BaseException:
            await engine.close()
            raise

    async def _loaded(self, engine: Engine, state: State, idle_s: float) -> float | None:
        power_w = None if engine.real_server is None else engine.real_server.power_w
        if power_w is None or not idle_s:
            return None
        if state not in self._loaded_w:
            self._on_note("idle power with the model loaded")
            self._loaded_w[state] = await settled_idle_w(power_w, idle_s)
        return self._loaded_w[state]


async def concluded(engine: Engine, configuration: Configuration, prepared: Prepared, measured: Measured) -> Measured:
    """What was measured, with what held around it; waits for the idle power after the run."""
    if engine.real_server is None:
        return measured
    idle_s, power_w = protocol_options(configuration.options).idle_s, engine.real_server.power_w
    after_w = await idle_w(power_w, idle_s / 3) if power_w is not None and idle_s else None
    conditions = replace(
        measured.conditions or Conditions(),
        bare_w=engine.real_server.bare_w,
        loaded_w=prepared.loaded_w,
        after_w=after_w,
        warm_ups=prepared.warm_ups,
    )
    return replace(measured, conditions=conditions)
