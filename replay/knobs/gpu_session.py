"""This machine's GPUs while an experiment uses them: knobs in force, a like temperature at start, and proof after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import isfinite
from typing import Any, Final
from urllib.parse import urlsplit

from rejoule.replay.energy.nvml import GpuLost, Nvml, has_gpu, open_nvml
from rejoule.replay.knobs import journal
from rejoule.replay.knobs.control import SETTLE_S, Knobs
from rejoule.replay.knobs.restore import restore_journaled
from rejoule.replay.knobs.setting import KnobRefused, Setting
from rejoule.replay.knobs.temperature import COOL_DOWN_S, TOLERANCE_C, StartTemperature
from rejoule.traces import RejouleError
from rejoule.traces.run import PARROT, Configuration, Run

OPTIONS: Final = {"settle_s": SETTLE_S, "temperature_tolerance_c": TOLERANCE_C, "cool_down_s": COOL_DOWN_S}
"""Options of a configuration that say how its GPUs are made ready, with their defaults."""
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
CLOCK_TOLERANCE_MHZ: Final = 30.0
"""Two of the 15 MHz steps of SM clocks."""


def on_this_machine(configuration: Configuration) -> bool:
    """Whether its server runs, or will run, where this machine's GPUs are."""
    engine = configuration.engine
    return engine == "vllm" or (engine != "sim" and urlsplit(engine.removeprefix(PARROT)).hostname in LOCAL_HOSTS)


def check_knobs(configuration: Configuration) -> None:
    """Raises RejouleError for knobs of a GPU that is not this machine's, and for options that are no numbers."""
    for name in OPTIONS:
        _option(configuration.options, name)
    if not Setting.of(configuration).asks:
        return
    if not on_this_machine(configuration):
        raise RejouleError(
            "power caps and clocks can be set only where the server's GPUs are",
            "run ReJoule on the server's machine and give a local URL, or use --engine sim",
        )
    if not has_gpu():
        raise RejouleError(
            "no NVIDIA GPU answers on this machine, so no power cap or clock can be set", "sweep them with --engine sim"
        )


class GpuSession:
    """``prepare`` before the first run, ``ready`` before each, ``attest`` after each, ``close`` at the end."""

    def __init__(self, on_wait: Callable[[str], None] = lambda _: None) -> None:
        """``on_wait`` is told what is being waited for."""
        self._on_wait = on_wait
        self._held = ExitStack()
        self._nvml: Nvml | None = None
        self._knobs: Knobs | None = None
        self._temperature = StartTemperature(self._hottest_c)

    def prepare(self, configurations: Sequence[Configuration]) -> dict[Setting, KnobRefused]:
        """Takes the GPUs if a configuration has knobs for them, and says which settings they refuse, and why.

        What a crashed experiment left is put back first, knobs or not. Raises RejouleError if another ReJoule sets
        the knobs of these GPUs.
        """
        local = [c for c in configurations if on_this_machine(c)]
        try:
            nvml = open_nvml() if local else None
        except GpuLost as error:
            raise RejouleError(str(error), "see dmesg; the GPU may need a reset") from error
        if nvml is None:
            return {}
        self._nvml = self._held.enter_context(nvml)
        settings = dict.fromkeys(setting for c in local if (setting := Setting.of(c)).asks)
        if not settings:
            left = restore_journaled(journal.knobs_folder(), [gpu.uuid for gpu in nvml.gpus])
            if wrong := next((gpu.left for gpu in left if gpu.left is not None), None):
                raise RejouleError(wrong, "these GPUs are not as they should be: rejoule restore")
            return {}
        self._knobs = self._held.enter_context(Knobs(nvml))
        refused: dict[Setting, KnobRefused] = {}
        for setting in settings:
            try:
                self._knobs.check(setting)
            except KnobRefused as reason:
                refused[setting] = reason
        return refused

    async def ready(self, configuration: Configuration) -> None:
        """Brings the configuration's knobs into force. Raises KnobRefused, with the GPUs as they were found."""
        if self._knobs is not None and on_this_machine(configuration):
            settle_s = _option(configuration.options, "settle_s")
            await self._knobs.set(Setting.of(configuration), settle_s=settle_s, on_wait=self._on_wait)

    async def cool(self, configuration: Configuration) -> None:
        """Waits until the GPUs are about as cool as when the first run began."""
        if self._nvml is not None and on_this_machine(configuration):
            await self._temperature.match(
                tolerance_c=_option(configuration.options, "temperature_tolerance_c"),
                cool_down_s=_option(configuration.options, "cool_down_s"),
                on_wait=self._on_wait,
            )

    async def attest(self, run: Run) -> Run:
        """The run with what was asked of its GPUs. Raises KnobRefused if that did not hold to its end."""
        setting = Setting.of(run.configuration)
        if self._knobs is None or not setting.asks or not on_this_machine(run.configuration):
            return run
        in_force_w = await self._knobs.confirm()
        cap = run.power_cap
        if setting.power_cap_w is not None:
            cap = replace(cap, requested_w=setting.power_cap_w, in_force_w=cap.in_force_w or in_force_w)
        conditions = run.conditions
        if conditions is not None and setting.sm_clock_mhz is not None:
            clock = conditions.sm_clock_mhz
            if clock is not None and clock > setting.sm_clock_mhz + CLOCK_TOLERANCE_MHZ:
                raise KnobRefused(
                    f"sm_clock_mhz = {setting.sm_clock_mhz:g} did not take effect: the clock was {clock:.0f} MHz",
                    "another program may have unlocked it; see: nvidia-smi -q -d CLOCK",
                )
            conditions = replace(conditions, locked_clock_mhz=setting.sm_clock_mhz)
        return replace(run, power_cap=cap, conditions=conditions)

    def close(self) -> None:
        """Puts the GPUs back. Raises RejouleError if one cannot be."""
        self._held.close()

    def _hottest_c(self) -> float | None:
        if self._nvml is None:
            return None
        try:
            known = [c for gpu in self._nvml.gpus if (c := gpu.sample().temperature_c) is not None]
        except GpuLost:
            return None
        return max(known, default=None)


def _option(options: Mapping[str, Any], name: str) -> float:
    value = options.get(name, OPTIONS[name])
    if isinstance(value, bool) or not isinstance(value, int | float) or not (isfinite(value) and value >= 0):
        raise RejouleError(f"{name} = {value!r} has no meaning", f"give a number, as in {name} = {OPTIONS[name]:g}")
    return float(value)
