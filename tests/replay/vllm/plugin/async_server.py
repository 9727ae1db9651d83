"""Starts vLLM's API server on a CPU with asynchronous scheduling, as it runs on a GPU.

vLLM turns it off on CPUs. Started as a program this file keeps it on; loaded by the worker, as the module of the logits
processor, it stands in for CUDA's streams and events, which have nothing to wait for there.
"""

from __future__ import annotations

import contextlib
import runpy
from typing import Any

import torch


class Waitless:
    """A stream or an event of a device that does everything at once."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


def do_without_streams() -> None:
    import vllm.v1.worker.gpu_model_runner as runner

    torch.cuda.Stream = torch.cuda.Event = torch.Event = Waitless
    torch.cuda.current_stream = Waitless
    torch.cuda.stream = contextlib.nullcontext
    original = runner.AsyncGPUModelRunnerOutput.__init__

    def copied(self: Any, *args: Any, sampled_token_ids: Any, **kwargs: Any) -> None:
        original(self, *args, sampled_token_ids=sampled_token_ids.clone(), **kwargs)

    runner.AsyncGPUModelRunnerOutput.__init__ = copied


def keep_asynchronous() -> None:
    from vllm.platforms.cpu import CpuPlatform

    original = CpuPlatform.check_and_update_config.__func__

    def check(cls: Any, config: Any) -> None:
        original(cls, config)
        config.scheduler_config.async_scheduling = True

    CpuPlatform.check_and_update_config = classmethod(check)


if __name__ == "__main__":
    keep_asynchronous()
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
elif __name__ == "async_server":
    do_without_streams()
    from rejoule_vllm.forced_tokens import ForcedTokens  # noqa: F401
