"""The command that starts a server: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from rejoule.replay.vllm.server.installation import Vllm, release, server_env
from rejoule.replay.vllm.server.options import ServerOptions
from rejoule.traces.errors import RejouleError
from rejoule.traces.secrets import MASK, hidden, is_secret, revealed

HOST = "127.0.0.1"
ACTIVE_SEQS_SINCE = (0, 31)

OWN_KNOBS = {
    "max_num_seqs": "max_num_seqs",
    "max_num_active_seqs": "max_num_seqs",
    "num_gpu_blocks_override": "num_gpu_blocks",
    "model": "model",
    "model_tag": "model",
}
REFUSED = {
    "host": "ReJoule's servers listen on this machine only",
    "port": "ReJoule takes a free port",
    "uds": "ReJoule speaks TCP",
    "root_path": "ReJoule calls the server directly",
    "api_key": "ReJoule's servers listen on this machine only",
    "ssl_keyfile": "ReJoule speaks plain HTTP",
    "ssl_certfile": "ReJoule speaks plain HTTP",
    "headless": "ReJoule needs the server's HTTP interface",
    "disable_log_stats": "ReJoule proves cold caches from the server's counters",
    "config": "give its options one by one, so that they are recorded",
}

BatchKnob = Literal["max_num_seqs", "max_num_active_seqs"]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Added to the inherited environment."""
    batch_knob: BatchKnob | None
    """The option that carries the batch size; ``None`` if vLLM chose it."""
    blocks_pinned: bool


def command(options: ServerOptions, vllm: Vllm, port: int, inherited: Mapping[str, str]) -> Launch:
    """The command for ``options`` on one version of vLLM. Raises RejouleError for an option that ReJoule sets itself.

    The batch size is ``--max-num-seqs``. From vLLM 0.31 on that stays at the sweep's largest, as it sizes CUDA graphs
    and buffers, and ``--max-num-active-seqs`` carries the batch size.
    """
    _check(options.arguments)
    knob: BatchKnob | None = None
    flags: list[str] = []
    if options.max_num_seqs is not None:
        largest = max(options.max_num_seqs, options.largest_num_seqs or 0)
        if release(vllm.version) >= ACTIVE_SEQS_SINCE:
            knob = "max_num_active_seqs"
            flags += ["--max-num-seqs", str(largest), "--max-num-active-seqs", str(options.max_num_seqs)]
        else:
            knob = "max_num_seqs"
            flags += ["--max-num-seqs", str(options.max_num_seqs)]
    if options.num_gpu_blocks is not None:
        flags += ["--num-gpu-blocks-override", str(options.num_gpu_blocks)]
    argv = (
        *(vllm.python, *vllm.entry, options.model),
        *("--host", HOST, "--port", str(port), "--enable-prompt-tokens-details"),
        *flags,
        *(word for name, value in options.arguments.items() for word in as_flags(name, revealed(value))),
        *options.plugin.arguments,
    )
    return Launch(argv, server_env(options, inherited), knob, options.num_gpu_blocks is not None)


def as_flags(name: str, value: Any) -> Iterator[str]:
    """An option as words of a command: switches for booleans, JSON for mappings, nothing for ``None``."""
    flag = "--" + name.lstrip("-").replace("_", "-")
    if value is None:
        return
    if isinstance(value, bool):
        yield flag if value else flag.replace("--", "--no-", 1)
    elif isinstance(value, Mapping):
        yield from (flag, orjson.dumps(value).decode())
    elif isinstance(value, list | tuple):
        yield from (flag, *map(str, value))
    elif str(value).startswith("-"):
        yield f"{flag}={value}"
    else:
        yield from (flag, str(value))


def without_secrets(argv: Sequence[str]) -> tuple[str, ...]:
    """A command that may be kept: what options hold whose names are those of keys is masked, alone and inside JSON."""
    kept: list[str] = []
    hide = False
    for word in argv:
        name, equals, _ = word.partition("=")
        secret = word.startswith("--") and is_secret(name)
        kept.append(
            MASK if hide and not word.startswith("--") else f"{name}={MASK}" if secret and equals else hidden(word)
        )
        hide = secret and not equals
    return tuple(kept)


def _check(arguments: Mapping[str, Any]) -> None:
    for given in arguments:
        name = given.lstrip("-").replace("-", "_")
        if name in OWN_KNOBS:
            raise RejouleError(f"vLLM's {given} is a knob of ReJoule", f"set {OWN_KNOBS[name]} instead")
        if name in REFUSED:
            raise RejouleError(f"vLLM's {given} cannot be set on a server that ReJoule starts", REFUSED[name])
