"""Makes requests emit recorded tokens, whatever else they ask for: a logits processor for vLLM's V1 model runner.

A request carries its tokens in ``vllm_xargs: {"forced_token_ids": "5,17,9"}`` (a list is taken too). Its row of logits
is left with one possible token, so no sampling parameter has a say. Requests without the key are not touched.

The recorded ids stay on the device. Where every forced row stands is sent there only when the batch changed or a
prompt was just completed; from step to step the positions advance on the device, so the host never waits for it.

What it relies on, the same in vLLM 0.26 and 0.30: ``apply`` runs once for each ``update_state``, on one row for each
request of the batch, those in the middle of their prompt included; their sampled token is thrown away. The list of
output ids that comes with an added request grows by one for each kept token before the next ``update_state``, under
asynchronous scheduling by a placeholder. A request that was preempted or passed over is removed and added again, with
the tokens it has.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

KEY = "forced_token_ids"

logger = logging.getLogger("vllm.rejoule")


@dataclass(eq=False, slots=True)
class _Forced:
    """One forced request of the batch."""

    slot: int
    """Its line in the pool of ids."""
    output: list[int]
    """vLLM's own list of what it has emitted."""
    start: int
    """How much it had emitted when it joined the batch."""


class ForcedTokens(LogitsProcessor):  # type: ignore[misc]
    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuses a request that would not come back exactly as recorded; vLLM answers it with status 400."""
        ids = forced_ids(sampling_params)
        if ids is None:
            return
        if sampling_params.max_tokens != len(ids):
            raise ValueError(f"{KEY} has {len(ids)} tokens but max_tokens is {sampling_params.max_tokens}")
        if not sampling_params.ignore_eos or sampling_params.stop or sampling_params.stop_token_ids:
            raise ValueError(f"{KEY} needs ignore_eos and neither stop nor stop_token_ids")
        if getattr(sampling_params, "thinking_token_budget", None) is not None:
            raise ValueError(f"{KEY} cannot be combined with thinking_token_budget")

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._pin = is_pin_memory
        self._vocabulary = vllm_config.model_config.get_vocab_size()
        slots = vllm_config.scheduler_config.max_num_seqs
        self._free = list(range(slots))
        self._pool = torch.zeros((slots, 1024), dtype=torch.int64, device=device)
        self._certain = torch.zeros((), dtype=torch.float32, device=device)
        self._forced: dict[int, _Forced] = {}
        self._unproven: set[_Forced] = set()
        self._rows: torch.Tensor | None = None
        self._cursors: torch.Tensor | None = None

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is not None:
            self._follow(batch_update)
        elif not self._unproven:
            return
        self._aim()

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        if self._rows is None or self._cursors is None:
            return logits
        tokens = self._pool.view(-1).index_select(0, self._cursors)
        # One possible token, as a grammar leaves it, is what every sampler of vLLM handles; a large logit is not:
        # penalties come later and its square overflows in the top-k kernel.
        if len(self._rows) == len(logits):
            logits.fill_(-torch.inf)
        else:
            logits.index_fill_(0, self._rows, -torch.inf)
        logits.index_put_((self._rows, tokens), self._certain)
        self._cursors.add_(1)
        return logits

    def _follow(self, update: BatchUpdate) -> None:
        """Takes over who left, joined and moved, in the order that vLLM prescribes."""
        for row in update.removed:
            self._release(row)
        for row, params, _, output in update.added:
            self._release(row)
            self._place(row, params, output)
        for source, target, direction in update.moved:
            if direction == MoveDirectionality.SWAP:
                other = self._forced.pop(target, None)
            else:
                other = None
                self._release(target)
            moved = self._forced.pop(source, None)
            if moved is not None:
                self._forced[target] = moved
            if other is not None:
                self._forced[source] = other

    def _place(self, row: int, params: SamplingParams, output: list[int]) -> None:
        ids = forced_ids(params)
        if ids is None:
            return
        if not 0 <= min(ids) <= max(ids) < self._vocabulary:
            # An index outside the logits would take the whole server down.
            logger.error("%s: an id lies outside the vocabulary of %d; not forced", KEY, self._vocabulary)
            return
        if len(ids) > self._pool.shape[1]:
            wider = self._pool.new_zeros((self._pool.shape[0], 1 << (len(ids) - 1).bit_length()))
            wider[:, : self._pool.shape[1]] = self._pool
            self._pool = wider
        forced = _Forced(self._free.pop(), output, len(output))
        self._forced[row] = forced
        self._unproven.add(forced)
        self._pool[forced.slot, : len(ids)].copy_(self._pinned(ids), non_blocking=True)

    def _release(self, row: int) -> None:
        forced = self._forced.pop(row, None)
        if forced is not None:
            self._free.append(forced.slot)
            self._unproven.discard(forced)

    def _aim(self) -> None:
        """Tells the device which rows are forced and where in the pool each one's next token is.

        A request whose prompt takes several steps stays where it is, and only its list of output ids tells when it is
        through; until then it is ``unproven`` and the positions are sent anew before each step.
        """
        self._unproven = {f for f in self._unproven if len(f.output) == f.start}
        if not self._forced:
            self._rows = self._cursors = None
            return
        width = self._pool.shape[1]
        cursors = [f.slot * width + len(f.output) for f in self._forced.values()]
        aim = self._pinned([list(self._forced), cursors]).to(self._device, non_blocking=True)
        self._rows, self._cursors = aim[0], aim[1]

    def _pinned(self, values: list[Any]) -> torch.Tensor:
        # Fresh pinned memory for each copy: torch recycles it only once the copy has run, so nothing waits for it.
        tensor = torch.from_numpy(np.array(values, dtype=np.int64))
        return tensor.pin_memory() if self._pin else tensor


def forced_ids(params: SamplingParams) -> list[int] | None:
    """The tokens that a request must emit, or None. Raises ValueError if they are no token ids."""
    value = (params.extra_args or {}).get(KEY)
    if value is None:
        return None
    try:
        ids = json.loads(f"[{value}]") if isinstance(value, str) else list(value)
    except (TypeError, ValueError):
        ids = []
    if not ids or not all(type(i) is int for i in ids):
        raise ValueError(f"{KEY} must be token ids, as in '5,17,9'")
    return ids
