"""How long tensor-parallel GPUs exchange in a step, by the ways in which vLLM does it.

Of a message of m bytes over N GPUs, each way takes a latency, and moves bytes at a share of the link's rate:

    one shot    (N - 1) m        every GPU reads all of the others': vLLM's own kernel
    two shots   2 (N - 1)/N m    each reduces a part and reads the other parts: vLLM's own kernel
    NCCL        2 (N - 1)/N m    a ring

Which way is taken is vLLM's choice (0.26 to 0.30, ``device_communicators/custom_all_reduce.py`` and
``csrc/custom_all_reduce.cuh``): its own kernels for messages below 8 MiB over 2, 4, 6 or 8 GPUs, if there are two that
reach each other's memory or if NVLink joins all of them, and unless they are disabled. Two GPUs need one shot; four
take two from 512 KiB on, six and eight from 256 KiB. Anything else is NCCL's. Symmetric memory and FlashInfer's
all-reduces are taken to be off (``VLLM_ALLREDUCE_USE_SYMM_MEM=0 VLLM_ALLREDUCE_USE_FLASHINFER=0``).

A step has two all-reduces a layer and one of the embeddings, of T d_model values each, and gathers the logits of the
tokens that it samples through NCCL.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from rejoule.replay.sim.profile import Profile

Way = Literal["one shot", "two shots", "NCCL"]

ACTIVATION_BYTES: Final = 2
"""Of one value that GPUs exchange: 16 bits."""
CUSTOM_GPUS: Final = (2, 4, 6, 8)
CUSTOM_BYTES: Final = 8 * 2**20
"""vLLM's own kernels are for messages below that."""
ONE_SHOT_BYTES: Final = {2: CUSTOM_BYTES, 4: 2**19, 6: 2**18, 8: 2**18}
"""By the number of GPUs: below, one shot; from there on two."""


class _Cost(NamedTuple):
    latency_s: float
    per_byte_s: float


class Exchange:
    """What GPUs of one profile exchange; nothing of a single one. ``custom`` is whether vLLM's own kernels are on."""

    def __init__(self, profile: Profile, custom: bool = True) -> None:
        model, gpu, timing, gpus = profile.model, profile.gpu, profile.timing, profile.tensor_parallel
        self.all_reduces = 2 * model.layers + 1 if gpus > 1 else 0
        """In a step."""
        joined = gpu.link == "nvlink" or (gpu.link == "peer" and gpus == 2)
        self._custom_bytes = CUSTOM_BYTES if custom and joined and gpus in CUSTOM_GPUS else 0
        self._one_shot_bytes = ONE_SHOT_BYTES.get(gpus, 0)
        self._token_bytes = model.hidden_size * ACTIVATION_BYTES
        # A gather moves half of what an all-reduce of as many bytes would.
        self._row_bytes = model.vocab_size * ACTIVATION_BYTES / 2
        rate = gpu.link_bytes_per_s or float("inf")
        ring = 2 * (gpus - 1) / gpus

        def cost(latency_s: float | None, efficiency: float, moved: float) -> _Cost:
            return _Cost(timing.all_reduce_s if latency_s is None else latency_s, moved / (efficiency * rate))

        self._costs: dict[Way, _Cost] = {
            "one shot": cost(timing.all_reduce_s, timing.all_reduce_efficiency, gpus - 1.0),
            "two shots": cost(timing.two_shot_s, timing.two_shot_efficiency, ring),
            "NCCL": cost(timing.nccl_s, timing.nccl_efficiency, ring),
        }

    def way(self, message_bytes: float) -> Way:
        """How a message of so many bytes is reduced."""
        if message_bytes >= self._custom_bytes:
            return "NCCL"
        return "one shot" if message_bytes < self._one_shot_bytes else "two shots"

    def way_of(self, tokens: int) -> Way:
        """How a step of so many tokens is."""
        return self.way(tokens * self._token_bytes)

    def all_reduce_s(self, message_bytes: float) -> float:
        """How long one all-reduce takes."""
        return self._by(self.way(message_bytes), message_bytes)

    def step_s(self, tokens: int, rows: int) -> float:
        """What the GPUs of a step spend on it: ``tokens`` are computed, and ``rows`` of them are sampled."""
        if not self.all_reduces:
            return 0.0
        gathered_s = self._by("NCCL", rows * self._row_bytes) if rows else 0.0
        return self.all_reduces * self.all_reduce_s(tokens * self._token_bytes) + gathered_s

    def _by(self, way: Way, message_bytes: float) -> float:
        cost = self._costs[way]
        return cost.latency_s + cost.per_byte_s * message_bytes
