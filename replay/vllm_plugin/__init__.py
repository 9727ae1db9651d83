"""What ReJoule loads into vLLM servers that it starts, and how: options, environment, and forced requests.

The part that runs inside the server is the package ``rejoule_vllm`` next to this file. It imports only the standard
library, torch and vLLM, because the server's Python has no ``rejoule``; it is found through ``PYTHONPATH`` and never
installed as an entry point: vLLM would then load it in every server of that Python, and change its model runner.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rejoule.traces import RejouleError

Forcing = Literal["logits-processor", "trace-replay"]
"""How a server is made to emit recorded tokens: by our logits processor, or by vLLM's own trace replay."""

FORCED_KEY = "forced_token_ids"
TAP_VARIABLE = "REJOULE_STEP_TAP"

# What could end an output earlier; and the seed, with which vLLM 0.30 on a CPU dies in the middle of a long prompt.
_DROPPED = ("stop", "stop_token_ids", "min_tokens", "max_completion_tokens", "seed")


@dataclass(frozen=True, slots=True)
class PluginArguments:
    """What to add to a server's command line and environment."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    """Replaces variables of the same name; ``PYTHONPATH`` keeps what this process has in it."""
    forcing: Forcing | None


def plugin_path() -> Path:
    """The folder that a server needs on its ``PYTHONPATH`` to import ``rejoule_vllm``."""
    return Path(__file__).resolve().parent


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


def forced_request(body: Mapping[str, Any], token_ids: Sequence[int], forcing: Forcing) -> dict[str, Any]:
    """The request ``body`` with which the server emits exactly ``token_ids`` and ends with reason ``length``.

    With ``logits-processor`` the body is one of ``/v1/chat/completions`` or ``/v1/completions``; with ``trace-replay``
    one of ``/inference/v1/generate``, the only route by which vLLM takes the ids. Whatever could end the output earlier
    is taken out; what costs the server work (temperature, penalties, tools, log probabilities) stays as it was.
    """
    if not token_ids:
        raise RejouleError("a call without output tokens cannot be forced", "leave it out, or replay in tier lengths")
    length = {"max_tokens": len(token_ids), "ignore_eos": True}
    if forcing == "trace-replay":
        params = {k: v for k, v in body.get("sampling_params", {}).items() if k not in _DROPPED}
        return {**body, "sampling_params": {**params, **length, "trace_decode_token_ids": list(token_ids)}}
    # A string, not a list: completions take lists only since 0.26, and vLLM validates a list item by item.
    forced = {**(body.get("vllm_xargs") or {}), FORCED_KEY: ",".join(map(str, token_ids))}
    return {**{k: v for k, v in body.items() if k not in _DROPPED}, **length, "vllm_xargs": forced}


def _release(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise RejouleError(f"{version!r} is no vLLM version", "give one as in 0.26.0")
    return int(found[1]), int(found[2])
