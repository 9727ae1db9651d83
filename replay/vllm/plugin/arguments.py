"""The options and the environment with which a vLLM server forces recorded tokens and taps its steps: pure.

The part that runs inside the server is the package ``rejoule_vllm`` in ``injected``. It imports only the standard
library, torch and vLLM, because the server's Python has no ``rejoule``; it is found through ``PYTHONPATH`` and never
installed as an entry point: vLLM would then load it in every server of that Python, and change its model runner.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rejoule.replay.vllm.plugin.forcing import Forcing
from rejoule.traces import RejouleError

TAP_VARIABLE = "REJOULE_STEP_TAP"


@dataclass(frozen=True, slots=True)
class PluginArguments:
    """What to add to a server's command line and environment."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    """Replaces variables of the same name; ``PYTHONPATH`` keeps what this process has in it."""
    forcing: Forcing | None


def plugin_path() -> Path:
    """The folder that a server needs on its ``PYTHONPATH`` to import ``rejoule_vllm``."""
    return Path(__file__).resolve().parents[1] / "injected"


def server_arguments(
    version: str, *, device: Literal["cpu", "cuda"], forced_tokens: bool, step_tap: Path | None
) -> PluginArguments:
    """What a vLLM server of ``version`` on ``device`` needs to force recorded tokens and to tap its steps.

    ``step_tap`` is the file that the tap writes: one for each server, overwritten at its start.
    """
    release = _release(version)
    arguments: list[str] = []
    environment: dict[str, str] = {}
    forcing: Forcing | None = None
    if forced_tokens and device == "cuda" and release >= (0, 29):
        forcing = "trace-replay"
        arguments += ["--enable-trace-replay"]
        # The only route that takes the ids is /inference/v1/generate, an opt-in since 0.30.
        arguments += ["--enable-scale-out"] if release >= (0, 30) else []
        environment["VLLM_USE_V2_MODEL_RUNNER"] = "1"
    elif forced_tokens:
        forcing = "logits-processor"
        arguments += ["--logits-processors", "rejoule_vllm.forced_tokens:ForcedTokens"]
        environment["VLLM_USE_V2_MODEL_RUNNER"] = "0"
    if step_tap is not None:
        arguments += ["--scheduler-cls", "rejoule_vllm.step_tap.TappedScheduler"]
        environment[TAP_VARIABLE] = str(step_tap)
    if forcing == "logits-processor" or step_tap is not None:
        known = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(plugin_path()), *([known] if known else [])])
    return PluginArguments(tuple(arguments), environment, forcing)


def _release(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise RejouleError(f"{version!r} is no vLLM version", "give one as in 0.26.0")
    return int(found[1]), int(found[2])
