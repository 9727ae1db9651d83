"""vLLM's scheduler with a tap on its steps: it decides as before, and what it decided is written to a file.

The file is named by ``REJOULE_STEP_TAP``; each further data-parallel engine adds its rank to the name. Without the
variable nothing is written. A tap that fails turns itself off and leaves the server alone.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vllm
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from .recorder import Recorder, Writer

if TYPE_CHECKING:
    from vllm.config import VllmConfig

logger = logging.getLogger("vllm.rejoule")


class TappedSyncScheduler(Scheduler):  # type: ignore[misc]
    """Arguments are passed on unseen: vLLM adds some from version to version."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._recorder = _open(self.vllm_config)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        output = super().schedule(*args, **kwargs)
        if self._recorder is not None:
            try:
                running, waiting = self.get_request_counts()
                usage = self.kv_cache_manager.usage
                self._recorder.scheduled(output, self.requests, running=running, waiting=waiting, kv_usage=usage)
            except Exception:
                self._untap()
        return output

    def update_from_output(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        results = super().update_from_output(scheduler_output, *args, **kwargs)
        if self._recorder is not None:
            try:
                self._recorder.processed(scheduler_output, results)
                if not self._recorder.writer.alive:
                    self._recorder = None
            except Exception:
                self._untap()
        return results

    def _preempt_request(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super()._preempt_request(request, *args, **kwargs)
        if self._recorder is not None:
            self._recorder.preempted(request.request_id)

    def shutdown(self) -> None:
        super().shutdown()
        if self._recorder is not None:
            self._recorder.writer.close()

    def _untap(self) -> None:
        logger.exception("the step tap failed and is off")
        self._recorder = None


class TappedScheduler(TappedSyncScheduler, AsyncScheduler):  # type: ignore[misc]
    """The scheduler to name in ``--scheduler-cls``; becomes the plain one where vLLM would choose that.

    vLLM (0.26 to 0.30) takes a named scheduler as it is, whether it schedules asynchronously or not, although each
    way needs its own.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        config: VllmConfig = kwargs["vllm_config"] if "vllm_config" in kwargs else args[0]
        if config.scheduler_config.async_scheduling:
            return super().__new__(cls)
        return TappedSyncScheduler(*args, **kwargs)


def _open(config: VllmConfig) -> Recorder | None:
    name = os.environ.get("REJOULE_STEP_TAP")
    if not name:
        return None
    rank = config.parallel_config.data_parallel_rank
    writer = Writer(Path(f"{name}.{rank}" if rank else name))
    header = {
        "vllm": vllm.__version__,
        "async_scheduling": bool(config.scheduler_config.async_scheduling),
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "block_size": config.cache_config.block_size,
        "num_gpu_blocks": config.cache_config.num_gpu_blocks,
        "id_suffix": os.environ.get("VLLM_DISABLE_REQUEST_ID_RANDOMIZATION", "0") in ("", "0"),
        "monotonic_ns": time.monotonic_ns(),
        "time_ns": time.time_ns(),
    }
    return Recorder(writer, header, speculative=config.speculative_config is not None)
