"""What a managed vLLM server is started with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import orjson

NOT_OF_THE_ENGINE = ("ready_timeout_s", "grace_s")


@dataclass(frozen=True, slots=True)
class Plugin:
    """What a plug-in of ReJoule adds to the servers that load it."""

    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    python_path: tuple[str, ...] = ()
    """Folders for the server's ``PYTHONPATH``."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """One engine configuration, and how patiently its server is handled. ``None`` leaves vLLM's default."""

    model: str
    """A folder, or a name that vLLM can download."""
    python: str | None = None
    """The interpreter that has vLLM; ``None`` takes ``$REJOULE_VLLM_PYTHON``, then the one that runs ReJoule."""
    max_num_seqs: int | None = None
    """The batch size."""
    largest_num_seqs: int | None = None
    """The sweep's largest batch size: what newer vLLMs are built for, so that only the limit in force changes."""
    num_gpu_blocks: int | None = None
    """KV blocks of each engine, pinned so that they do not change with the batch size."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Any further option of ``vllm serve`` by name, as in ``{"tensor_parallel_size": 2}``."""
    env: Mapping[str, str] = field(default_factory=dict)
    plugin: Plugin = field(default_factory=Plugin)
    ready_timeout_s: float = 1800.0
    grace_s: float = 10.0
    """How long a server may take to end by itself before it is killed."""


def server_key(options: ServerOptions) -> str:
    """A short digest, equal for options that one server can serve."""
    engine = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in NOT_OF_THE_ENGINE}
    return hashlib.sha256(orjson.dumps(engine, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
