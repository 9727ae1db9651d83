"""Options of engines that vLLM and the simulated engine both have, by vLLM's names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

DEFAULTS: Final[Mapping[str, Any]] = {
    "max_num_batched_tokens": None,
    "num_gpu_blocks": None,
    "gpu_memory_utilization": None,
    "kv_cache_memory_bytes": None,
    "kv_cache_dtype": "auto",
    "enable_prefix_caching": True,
    "enable_chunked_prefill": True,
    "long_prefill_token_threshold": 0,
    "async_scheduling": True,
    "scheduling_policy": "fcfs",
    "enforce_eager": False,
    "cudagraph_capture_sizes": None,
    "tensor_parallel_size": 1,
    "disable_custom_all_reduce": False,
}
"""What they are unless given; ``None`` is up to the engine, by its GPU and its batch size."""

GPUS: Final = "tensor_parallel_size"
"""How many GPUs share each layer's work."""

NCCL_ALONE: Final = "disable_custom_all_reduce"
"""Whether GPUs exchange by NCCL alone, and not by vLLM's own kernels where those can."""

KV_MEMORY: Final = ("num_gpu_blocks", "gpu_memory_utilization", "kv_cache_memory_bytes")
"""Those that all say how much the KV cache holds."""

SAID: Final[Mapping[str, str]] = {
    "max_num_batched_tokens": "token budget",
    "num_gpu_blocks": "KV blocks",
    "gpu_memory_utilization": "GPU memory",
    "kv_cache_memory_bytes": "KV memory",
    "kv_cache_dtype": "KV type",
    "enable_prefix_caching": "prefix caching",
    "enable_chunked_prefill": "chunked prefill",
    "long_prefill_token_threshold": "prompt chunks",
    "scheduling_policy": "scheduling",
    "enforce_eager": "CUDA graphs",
    "cudagraph_capture_sizes": "CUDA graphs' sizes",
    "tensor_parallel_size": "GPUs",
    "disable_custom_all_reduce": "all-reduces",
}
"""What an option is about."""

_SWITCHES: Final = {
    "enable_prefix_caching": ("prefix caching off", "prefix caching on"),
    "enable_chunked_prefill": ("chunked prefill off", "chunked prefill on"),
    "async_scheduling": ("async scheduling off", "async scheduling on"),
    "enforce_eager": ("CUDA graphs", "no CUDA graphs"),
    "disable_custom_all_reduce": ("custom all-reduces", "all-reduces by NCCL alone"),
}
_SIZES: Final = {
    "max_num_batched_tokens": ("default budget", "budget {:,}"),
    "num_gpu_blocks": ("default KV blocks", "{:,} KV blocks"),
    "kv_cache_memory_bytes": ("default KV memory", "KV memory {:,} B"),
    "gpu_memory_utilization": ("default GPU memory", "{:.0%} of GPU memory"),
    "long_prefill_token_threshold": ("prompt chunks of any size", "prompt chunks of {:,}"),
}


def option_word(name: str, value: Any) -> str:
    """An option in plain words, ``no CUDA graphs``; ``None`` is its default."""
    value = DEFAULTS.get(name) if value is None else value
    if name in _SWITCHES and isinstance(value, bool):
        return _SWITCHES[name][value]
    if name in _SIZES and (value is None or (isinstance(value, int | float) and not isinstance(value, bool))):
        unset, size = _SIZES[name]
        return size.format(value) if value else unset
    if name == GPUS and isinstance(value, int):
        return "1 GPU" if value == 1 else f"{value} GPUs"
    if name == "kv_cache_dtype":
        return f"KV {value}"
    if name == "scheduling_policy":
        return f"{value} scheduling"
    if name == "cudagraph_capture_sizes":
        return "default CUDA graphs" if value is None else f"CUDA graphs of {', '.join(map(str, value))}"
    return f"default {name}" if value is None else f"{name}={value}"


def option_words(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Options in plain words, ``None`` being a default: of several, those that are turned, if any."""
    turned = {name: value for name, value in options.items() if value not in (None, DEFAULTS.get(name))}
    shown = options if len(options) == 1 else turned
    return tuple(option_word(name, value) for name, value in shown.items()) or ("default options",) * bool(options)


def varying_options(several: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of the options that are not the same in all of these."""
    held = list(several)
    names = dict.fromkeys(name for options in held for name in options)
    return tuple(name for name in names if any(options.get(name) != held[0].get(name) for options in held))
