"""Plays loads on vLLM's own scheduler by the step, not by the clock, and writes what every step did.

``python step_clock.py MODEL LOADS STEPS``, in an environment with vLLM. A load has ``limits``, ``calls`` and
``engine``: ``model`` computes every step on the CPU, with one engine for all loads and a scheduler of its own for each;
``scheduler`` answers for the model at once, which also allows asynchronous scheduling, that vLLM turns off on a CPU.

A call is added before step ``step``, and not before ``gap`` steps after the one in which the last of ``after`` ended.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine.core import EngineCore
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

LARGEST = {"max_num_seqs": 64, "max_num_batched_tokens": 8192, "num_gpu_blocks_override": 600, "block_size": 32}


def main() -> None:
    model, loads_path, steps_path = map(Path, sys.argv[1:])
    loads = json.loads(loads_path.read_text())
    config = EngineArgs(
        model=str(model),
        load_format="dummy",
        dtype="bfloat16",
        enforce_eager=True,
        logits_processors=["rejoule_vllm.forced_tokens:ForcedTokens"],
        **LARGEST,
    ).create_engine_config()
    init_none_hash(sha256)
    core = None
    if any(load["engine"] == "model" for load in loads):
        core = EngineCore(config, Executor.get_class(config), log_stats=False)
    with steps_path.open("w") as file:
        for load in loads:
            json.dump(play(load, config, core), file)
            file.write("\n")


def play(load: dict[str, Any], config: VllmConfig, core: EngineCore | None) -> list[dict[str, Any]]:
    """One record for each step: its batch, and what runs, waits and is free once it is over."""
    limits = load["limits"]
    scheduler = make_scheduler(limits, config, core, load.get("tap"))
    seen: dict[str, Any] = {}
    observe(scheduler, seen)
    if load["engine"] == "model":
        assert core is not None
        core.scheduler = scheduler
        step: Callable[[], object] = core.step
    else:
        step = Stub(scheduler, int(limits["async_scheduling"])).step
    hasher = get_request_block_hasher(limits["block_size"], sha256) if limits["enable_prefix_caching"] else None
    live: dict[str, Request] = {}
    ended: dict[str, int] = {}
    records: list[dict[str, Any]] = []
    todo = load["calls"]
    while todo or live or scheduler.has_requests():
        now = len(records)
        due = [call for call in todo if is_due(call, ended, now)]
        todo = [call for call in todo if call not in due]
        for call in due:
            live[call["id"]] = request = make_request(call, len(live) + len(ended), hasher)
            scheduler.add_request(request)
        seen.clear()
        step()
        finished = [name for name in live if name not in scheduler.requests]
        for name in finished:
            ended[name] = now
            assert list(live.pop(name).output_token_ids) == forced[name], name
        records.append(
            {
                "batch": seen.get("batch", []),
                "cached": seen.get("cached", {}),
                "preempted": sorted(seen.get("preempted", [])),
                "finished": sorted(finished),
                "running": [r.request_id for r in scheduler.running],
                "waiting": [r.request_id for r in scheduler.waiting],
                "free_blocks": scheduler.kv_cache_manager.block_pool.get_num_free_blocks(),
            }
        )
    if load.get("tap"):
        scheduler._recorder.writer.close()
    return records


def is_due(call: dict[str, Any], ended: dict[str, int], now: int) -> bool:
    if not all(name in ended for name in call["after"]):
        return False
    return bool(now >= max([call["step"], *(ended[name] + 1 + call["gap"] for name in call["after"])]))


forced: dict[str, list[int]] = {}


def make_request(call: dict[str, Any], number: int, hasher: Any) -> Request:
    forced[call["id"]] = call["output"]
    ids = ",".join(map(str, call["output"]))
    params = SamplingParams(
        max_tokens=len(call["output"]), ignore_eos=True, temperature=0.0, extra_args={"forced_token_ids": ids}
    )
    return Request(
        request_id=call["id"],
        prompt_token_ids=call["prompt"],
        sampling_params=params,
        pooling_params=None,
        arrival_time=float(number) if call["arrival_s"] is None else call["arrival_s"],
        priority=call["priority"],
        cache_salt=call["salt"],
        block_hasher=hasher,
    )


def make_scheduler(limits: dict[str, Any], config: VllmConfig, core: EngineCore | None, tap: str | None) -> Scheduler:
    config = copy.copy(config)
    config.scheduler_config = copy.copy(config.scheduler_config)
    config.cache_config = copy.copy(config.cache_config)
    for name in ("max_num_seqs", "max_num_batched_tokens", "policy", "long_prefill_token_threshold",
                 "enable_chunked_prefill", "async_scheduling"):  # fmt: skip
        setattr(config.scheduler_config, name, limits[name])
    config.scheduler_config.max_num_scheduled_tokens = None
    for name in ("block_size", "enable_prefix_caching"):
        setattr(config.cache_config, name, limits[name])
    config.cache_config.num_gpu_blocks = limits["num_gpu_blocks"]
    if core is None:
        spec = FullAttentionSpec(block_size=limits["block_size"], num_kv_heads=1, head_size=64, dtype=torch.bfloat16)
        blocks = KVCacheConfig(limits["num_gpu_blocks"], [], [KVCacheGroupSpec(["layer"], spec)])
    else:
        blocks = copy.copy(core.scheduler.kv_cache_config)
        blocks.num_blocks = limits["num_gpu_blocks"]
    kind: type[Any] = AsyncScheduler if limits["async_scheduling"] else Scheduler
    if tap:
        os.environ["REJOULE_STEP_TAP"] = tap
        from rejoule_vllm.step_tap import TappedSyncScheduler

        kind = TappedSyncScheduler
    return kind(
        vllm_config=config,
        kv_cache_config=blocks,
        structured_output_manager=StructuredOutputManager(config),
        block_size=limits["block_size"],
    )


def observe(scheduler: Scheduler, seen: dict[str, Any]) -> None:
    """Puts what ``schedule`` decided into ``seen``."""
    decide = scheduler.schedule

    def schedule(*args: Any, **kwargs: Any) -> Any:
        output = decide(*args, **kwargs)
        seen["batch"] = [
            # The scheduler has counted this step's tokens as computed already.
            (name, tokens, (request := scheduler.requests[name]).num_computed_tokens - tokens,
             int(not request.is_prefill_chunk))
            for name, tokens in output.num_scheduled_tokens.items()
        ]  # fmt: skip
        admitted = {r.req_id for r in output.scheduled_new_reqs} | output.scheduled_cached_reqs.resumed_req_ids
        seen["cached"] = {name: context for name, _, context, _ in seen["batch"] if name in admitted}
        seen["preempted"] = list(output.preempted_req_ids or ())
        return output

    scheduler.schedule = schedule


class Stub:
    """A model that answers at once; ``lag`` steps are decided before the output of the first is taken over."""

    def __init__(self, scheduler: Scheduler, lag: int) -> None:
        self.scheduler = scheduler
        self.lag = lag
        self.pending: deque[tuple[Any, list[str]]] = deque()

    def step(self) -> None:
        scheduled = self.scheduler.has_requests()
        if scheduled:
            output = self.scheduler.schedule()
            names = [n for n in output.num_scheduled_tokens if not self.scheduler.requests[n].is_prefill_chunk]
            self.pending.append((output, names))
            if len(self.pending) <= self.lag and self.scheduler.has_requests():
                return
        if self.pending:
            output, emitting = self.pending.popleft()
            names = list(output.num_scheduled_tokens)
            sampled = [[self._next(name)] if name in emitting else [] for name in names]
            result = ModelRunnerOutput(names, {name: i for i, name in enumerate(names)}, sampled)
            self.scheduler.update_from_output(output, result)

    def _next(self, name: str) -> int:
        request = self.scheduler.requests.get(name)
        return 0 if request is None else forced[name][request.num_output_tokens]


if __name__ == "__main__":
    main()
