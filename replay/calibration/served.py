"""Which limits the grid is made for: those given, those that the server tells, or else the usual ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from rejoule.replay.calibration.grid import Limits
from rejoule.replay.engines.http import LOCAL_HOSTS, api_url, served_models, timeouts_of
from rejoule.replay.engines.wire import Wire, WireError
from rejoule.replay.sim.serving import BLOCK_SIZE
from rejoule.replay.vllm.server.describe import limits_told
from rejoule.traces import RejouleError
from rejoule.traces.run import Run
from rejoule.traces.secrets import api_key

FLAGS: Final[Mapping[str, str]] = {
    "max_num_seqs": "--max-num-seqs",
    "max_model_len": "--max-model-len",
    "kv_tokens": "--kv-tokens",
    "max_num_batched_tokens": "--max-num-batched-tokens",
}
"""How the command line calls them."""
WORDS: Final[Mapping[str, str]] = {
    "max_num_seqs": "a batch size of {:,}",
    "max_model_len": "contexts of {:,} tokens",
    "kv_tokens": "a KV cache of {:,} tokens",
    "max_num_batched_tokens": "{:,} tokens a step",
}
LEAST_MODEL_LEN: Final = 512
"""Of the grid's contexts: shorter ones hold none of its cells."""
EXACT: Final = "max_num_batched_tokens"
"""A limit that cells fill up: it is taken as it is. Below the others they only have to stay."""


def told_by(engine: str, options: Mapping[str, Any]) -> dict[str, int]:
    """What is known before anything is measured: of a server that will be started by its options, of one that runs by
    asking it. Raises RejouleError if it does not answer."""
    found = dict(options) if engine in ("vllm", "sim") else asyncio.run(_asked(engine))
    blocks, size = found.get("num_gpu_blocks"), found.get("block_size") or BLOCK_SIZE
    if isinstance(blocks, int) and blocks > 0 and isinstance(size, int):
        found["kv_tokens"] = blocks * size
    names = (*WORDS, "tensor_parallel_size")
    return {name: value for name in names if isinstance(value := found.get(name), int) and value > 0}


def limits_for(
    given: Mapping[str, int | None], told: Mapping[str, int], cell_s: float, longest: int | None = None
) -> Limits:
    """The limits of the grid's server, whose model's contexts are no longer than ``longest``.

    Raises RejouleError where more is given than the server says it takes, or contexts are too short for any grid.
    """
    usual = Limits(cell_s=cell_s)
    if longest is not None:
        usual = replace(usual, max_model_len=min(usual.max_model_len, longest))
    found: dict[str, int] = {}
    for name in WORDS:
        asked, has, most = given.get(name), told.get(name), getattr(usual, name)
        if asked is not None and has is not None and asked > has:
            raise RejouleError(
                f"{FLAGS[name]} {asked} is more than the server takes: {WORDS[name].format(has)}",
                f"give at most {has}, or leave it out",
            )
        wanted = asked if asked is not None else has if has is not None else most
        found[name] = wanted if name == EXACT or asked is not None else min(wanted, most)
    # A prompt has to fit into the cache, too.
    found["max_model_len"] = min(found["max_model_len"], found["kv_tokens"])
    if found["max_model_len"] < LEAST_MODEL_LEN:
        raise RejouleError(
            f"a server that takes {WORDS['max_model_len'].format(found['max_model_len'])} is too small for the grid",
            f"serve contexts of {LEAST_MODEL_LEN} tokens or more",
        )
    return Limits(**found, cell_s=cell_s)


def assumed(given: Mapping[str, int | None], told: Mapping[str, int], limits: Limits) -> str | None:
    """What of the limits is a guess, as one sentence."""
    guessed = [name for name in WORDS if given.get(name) is None and name not in told]
    if not guessed:
        return None
    words = " and ".join(WORDS[name].format(getattr(limits, name)) for name in guessed)
    flags = " and ".join(FLAGS[name] for name in guessed)
    return f"assumed of the server, which does not say so: {words}; give {flags} if it is another"


def overrun(run: Run, limits: Limits) -> str | None:
    """What of its grid a server had no room for, as one sentence; ``None`` if it had, or did not tell."""
    told = told_by("vllm", run.engine)
    less = [name for name in WORDS if name != EXACT and told.get(name, getattr(limits, name)) < getattr(limits, name)]
    if not less:
        return None
    words = " and ".join(WORDS[name].format(told[name]) for name in less)
    flags = " ".join(f"{FLAGS[name]} {told[name]}" for name in less)
    return f"{run.id}: its server had {words} only, less than the grid was made for: make one with {flags}"


def local(engine: str) -> bool:
    """Whether its GPUs are this machine's."""
    return engine == "vllm" or urlsplit(engine).hostname in LOCAL_HOSTS


async def _asked(engine: str) -> dict[str, Any]:
    url = api_url(engine)
    wire = Wire(url.removesuffix("/v1"), timeouts_of({}), key=api_key())
    try:
        models = await served_models(wire, url)
        info = await _text(wire, "/server_info?config_format=json")
        metrics = await _text(wire, "/metrics")
    finally:
        await wire.close()
    try:
        said = orjson.loads(info)
    except orjson.JSONDecodeError:
        said = {}
    return limits_told(said if isinstance(said, Mapping) else {}, metrics, _longest(models))


def _longest(models: Sequence[Any]) -> int | None:
    lengths = [model.max_model_len for model in models if model.max_model_len is not None]
    return min(lengths, default=None)


async def _text(wire: Wire, path: str) -> str:
    try:
        answer = await wire.get(path)
    except WireError:
        return ""
    return answer.body.decode(errors="replace") if answer.status == 200 else ""
