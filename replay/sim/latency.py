"""How long one step takes: a soft roofline that knows the SM clock.

    F      = 2 N T + 4 L H d [sum n (c + n/2) + sum c] + 2 d_model V rows        floating-point operations
    B      = weights(T) + kappa [sum c + T]                                      bytes through the HBM
    t_c    = F / (eta_c peak f/f0),  t_m = B / (eta_m bandwidth min(1, f/(knee f0)))
    t_gpu  = (t_c^p + t_m^p)^(1/p) + a L + b batch + c + t_link + t_twice
    t_step = max(t_gpu, t_host) + t_serial

with T tokens in the step, n new tokens of a prompt after c that are cached, and decodes of context c. The roofline is
that of BLIS (inference-sim) and vLLM's own ``v1/metrics/perf.py``; the p-norm joins its two legs smoothly, and the
maximum over host time is vLLM's asynchronous scheduling in a steady state (``pipeline`` has the rest); t_serial is 0
then, and without it what the host does while the GPU waits. Attention, and the reading of keys and values, have
efficiencies of their own where they are given.

vLLM captures CUDA graphs for up to 2 ``max_num_seqs`` tokens a step, and 512 at most (``vllm/config/vllm.py``). A step
of no more is padded to the next captured size, and costs the host little; a larger one, as every one is without graphs,
is launched kernel by kernel. Before a step before which there was nothing to do, the host needs some more time
(``first_s``).

Of E routed experts a layer, T tokens that choose k each touch E (1 - (1 - k/E)^T): those are read. Multi-head latent
attention caches L (r + d_rope) values a token; its decodes attend in the latent, 2 L H (2 r + d_rope) operations a
cached token instead of 4 L H d (DeepSeek-V2, arXiv 2405.04434, absorbed projections).

N tensor-parallel GPUs split F and the weights evenly, and the cache by KV heads; t_link is what they exchange
(``all_reduce``). Each does all of what is not split: launches, sampling, and the norms, which read and write a token's
activations and its residual twice a layer. One GPU's efficiencies have those in them; of several, t_twice adds the
1 - 1/N of them that an even split would have saved. The host tells its workers of each step, and launches every
all-reduce of a step without CUDA graphs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rejoule.replay.sim.all_reduce import ACTIVATION_BYTES, Exchange
from rejoule.replay.sim.profile import Profile

Array = NDArray[np.float64]

NORM_PASSES = 8
"""Reads and writes of d_model values a token and layer: two norms, of activations and residual each."""


class Work(NamedTuple):
    """What one step computes, in tokens; ``prefill_pairs`` is the sum of n (c + n/2) over its prompt chunks."""

    prefills: int = 0
    prefill_tokens: int = 0
    prefill_pairs: float = 0.0
    prefill_context: int = 0
    decodes: int = 0
    decode_context: int = 0
    prompts_completed: int = 0
    first: bool = False
    """Whether the GPU had nothing to do before it."""


class Demand(NamedTuple):
    """What a step asks of the hardware, in seconds: ``compute_s`` at the greatest clock, the rest at any."""

    compute_s: float
    memory_s: float
    overhead_s: float
    host_s: float
    cache_s: float = 0.0
    """The part of ``memory_s`` that reads and writes keys and values."""
    first_s: float = 0.0
    """How much later the step begins because there was nothing to do before."""
    serial_s: float = 0.0
    """What the host does for it while the GPU waits."""
    link_s: float = 0.0
    """The part of ``overhead_s`` in which tensor-parallel GPUs exchange, or wait for each other."""


class StepTime(NamedTuple):
    """How a step's time, ``step_s``, is made up at one clock."""

    compute_s: float
    memory_s: float
    gpu_s: float
    step_s: float
    cache_s: float = 0.0
    link_s: float = 0.0


class StepTimes(NamedTuple):
    """The same of S steps."""

    compute_s: Array
    memory_s: Array
    step_s: Array
    cache_s: Array
    link_s: Array


class LatencyModel:
    """The formulas above with one profile's constants.

    Graphs are those of ``graph_sizes`` tokens, or, of the profile's, what is captured for ``max_num_seqs``. ``ahead``
    says that steps are scheduled while the one before them is computed, ``custom_all_reduce`` that vLLM's own kernels
    are used where they can be.
    """

    def __init__(
        self,
        profile: Profile,
        max_num_seqs: int | None = None,
        graph_sizes: Sequence[int] | None = None,
        ahead: bool = True,
        custom_all_reduce: bool = True,
    ) -> None:
        model, gpu, timing, gpus = profile.model, profile.gpu, profile.timing, profile.tensor_parallel
        self._timing = timing
        self._norm = timing.overlap_norm
        self._ahead = ahead
        self._serial_s = timing.host_per_step_s if timing.host_serial_s is None else timing.host_serial_s
        seats = profile.serving.max_num_seqs if max_num_seqs is None else max_num_seqs
        default = (size for size in profile.serving.graph_sizes if size <= 2 * seats)
        self._graph_sizes = tuple(default if graph_sizes is None else graph_sizes)
        self.captured_tokens = self._graph_sizes[-1] if self._graph_sizes else 0
        """Of the largest step for which there is a CUDA graph."""
        rate = timing.compute_efficiency * gpu.peak_flops * gpus
        attending = timing.attention_efficiency or timing.compute_efficiency
        attention = 2 * model.caching_layers * model.heads / (attending * gpu.peak_flops * gpus)
        self._token_s = 2 * model.active_parameters / rate
        self._prefill_pair_s = attention * 2 * model.head_dim
        self._decode_pair_s = attention * model.decode_pair_width
        self._row_s = 2 * model.head_parameters / rate
        width = timing.memory_efficiency * gpu.hbm_bytes_per_s
        weight_s = model.bytes_per_weight / (width * gpus)
        self._dense_s = (model.layer_parameters + model.head_parameters) * weight_s
        self._experts_s = model.experts * model.expert_parameters * weight_s
        self._untouched = 1 - model.experts_per_token / model.experts
        kept = timing.cache_efficiency or timing.memory_efficiency
        self._kv_s = model.kv_bytes_per_token / model.kv_split(gpus) / (kept * gpu.hbm_bytes_per_s)
        self._fixed_s = timing.per_layer_s * model.layers + timing.per_step_s
        self.exchange = Exchange(profile, custom_all_reduce)
        passes = model.layers * NORM_PASSES * model.hidden_size * ACTIVATION_BYTES
        self._twice_token_s = (1 - 1 / gpus) * passes / width
        self._workers_s = timing.host_workers_s if gpus > 1 else 0.0
        self._host_eager_s = timing.host_eager_s + self.exchange.all_reduces * timing.host_all_reduce_s
        self._max_clock_mhz = gpu.max_clock_mhz

    def demand(self, work: Work) -> Demand:
        """What ``work`` costs; it is padded to the next captured CUDA graph."""
        batch = work.prefills + work.decodes
        tokens = work.prefill_tokens + work.decodes
        padded = self._padded(tokens)
        compute = (
            self._token_s * padded
            + self._prefill_pair_s * work.prefill_pairs
            + self._decode_pair_s * work.decode_context
            + self._row_s * (work.decodes + work.prompts_completed)
        )
        cache = self._kv_s * (work.decode_context + work.prefill_context + tokens)
        memory = self._dense_s + cache
        if self._experts_s:
            memory += self._experts_s * (1 - self._untouched**tokens)
        timing = self._timing
        host_requests = timing.host_per_request_s * batch
        host = timing.host_per_step_s + self._workers_s + host_requests
        if tokens > self.captured_tokens:
            host += self._host_eager_s
        elif work.prefills:
            host += timing.host_prefill_s
        serial = 0.0 if self._ahead else self._serial_s + self._workers_s + host_requests
        link = self.exchange.step_s(padded, work.decodes + work.prompts_completed)
        overhead = self._fixed_s + timing.per_request_s * batch + self._twice_token_s * padded + link
        first = timing.host_first_s if work.first else 0.0
        return Demand(compute, memory, overhead, host, cache, first, serial, link)

    def is_whole(self, prefills: int, decodes: int) -> bool:
        """Whether a step is one CUDA graph, as those are that only decode; one with prompts is a graph a layer."""
        return not prefills and decodes <= self.captured_tokens

    def time(self, demand: Demand, clock_mhz: float) -> StepTime:
        """The step's time at an SM clock. The memory's own clock does not change with it."""
        compute = demand.compute_s * self._max_clock_mhz / clock_mhz
        slowed = demand.memory_s * max(1.0, self._timing.memory_knee * self._max_clock_mhz / clock_mhz)
        norm = self._norm
        gpu = (compute**norm + slowed**norm) ** (1 / norm) + demand.overhead_s
        step = max(gpu, demand.host_s) + demand.serial_s
        return StepTime(compute, demand.memory_s, gpu, step, demand.cache_s, demand.link_s)

    def times(self, demands: Array, clock_mhz: Array | float) -> StepTimes:
        """``time`` of many: ``demands`` is S × the fields of a `Demand`, ``clock_mhz`` one for all or S."""
        compute_s, memory_s, overhead_s, host_s, cache_s, _, serial_s, link_s = demands.T
        slower = self._max_clock_mhz / np.asarray(clock_mhz)
        compute, norm = compute_s * slower, self._norm
        slowed = memory_s * np.maximum(1.0, self._timing.memory_knee * slower)
        gpu = (compute**norm + slowed**norm) ** (1 / norm) + overhead_s
        return StepTimes(compute, memory_s, np.maximum(gpu, host_s) + serial_s, cache_s, link_s)

    def _padded(self, tokens: int) -> int:
        sizes = self._graph_sizes
        at = bisect_left(sizes, tokens)
        return sizes[at] if at < len(sizes) else tokens
