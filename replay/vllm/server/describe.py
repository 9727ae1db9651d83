"""What a running server is, asked of the server itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiohttp

from rejoule.replay.vllm.server.command import Launch, without_secrets
from rejoule.replay.vllm.server.metrics import parse_cache_config
from rejoule.traces.secrets import blanked

EFFECTIVE = {
    "num_gpu_blocks": ("cache_config", "num_gpu_blocks"),
    "block_size": ("cache_config", "block_size"),
    "prefix_caching": ("cache_config", "enable_prefix_caching"),
    "max_model_len": ("model_config", "max_model_len"),
    "dtype": ("model_config", "dtype"),
    "max_num_batched_tokens": ("scheduler_config", "max_num_batched_tokens"),
    "scheduling_policy": ("scheduler_config", "policy"),
    "tensor_parallel_size": ("parallel_config", "tensor_parallel_size"),
    "pipeline_parallel_size": ("parallel_config", "pipeline_parallel_size"),
    "data_parallel_size": ("parallel_config", "data_parallel_size"),
}


async def describe(http: aiohttp.ClientSession, url: str, launch: Launch) -> Mapping[str, Any]:
    """Model, version and limits in force of the server whose root is ``url``; ``None`` for what it does not tell.

    ``batch_knob`` is the option that carried the batch size; ``configuration``, ``environment`` and ``system`` are
    vLLM's own account of itself, without secrets.
    """
    version = await _json(http, f"{url}/version")
    models = await _json(http, f"{url}/v1/models")
    info = await _json(http, f"{url}/server_info?config_format=json")
    return description(version, models, info, await _text(http, f"{url}/metrics"), launch)


def description(
    version: Mapping[str, Any], models: Mapping[str, Any], info: Mapping[str, Any], metrics: str, launch: Launch
) -> dict[str, Any]:
    """The same of the server's answers. A server without ``/server_info`` still tells blocks among its metrics."""
    told = info.get("vllm_config")
    configuration: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    model: Mapping[str, Any] = next(iter(models.get("data") or ()), {})
    return {
        "engine": "vllm",
        "version": version.get("version"),
        "model": model.get("id"),
        "batch_knob": launch.batch_knob,
        "blocks_pinned": launch.blocks_pinned,
        **limits_told(info, metrics, model.get("max_model_len")),
        "command": list(without_secrets(launch.argv)),
        "configuration": blanked(configuration),
        "environment": blanked(info.get("vllm_env") or {}),
        "system": blanked(info.get("system_env") or {}),
    }


def limits_told(info: Mapping[str, Any], metrics: str, max_model_len: Any) -> dict[str, Any]:
    """The limits that ``/server_info``, or else the metrics, tell; ``None`` for each that neither does."""
    told = info.get("vllm_config")
    configuration: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    limits = {name: _at(configuration, *path) for name, path in EFFECTIVE.items()}
    cache = parse_cache_config(metrics)
    for name in ("num_gpu_blocks", "block_size"):
        if limits[name] is None and cache.get(name, "").isdigit():
            limits[name] = int(cache[name])
    active, seats = (_at(configuration, "scheduler_config", name) for name in ("max_num_active_seqs", "max_num_seqs"))
    return {
        "max_num_seqs": seats if active is None else active,
        **limits,
        "max_model_len": limits["max_model_len"] or max_model_len,
    }


def _at(tree: Mapping[str, Any], section: str, name: str) -> Any:
    inside = tree.get(section)
    return inside.get(name) if isinstance(inside, Mapping) else None


async def _json(http: aiohttp.ClientSession, url: str) -> Mapping[str, Any]:
    with suppress(aiohttp.ClientError, TimeoutError, ValueError):
        async with http.get(url, raise_for_status=True) as response:
            body = await response.json(content_type=None)
            return body if isinstance(body, Mapping) else {}
    return {}


async def _text(http: aiohttp.ClientSession, url: str) -> str:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with http.get(url, raise_for_status=True) as response:
            return await response.text()
    return ""
