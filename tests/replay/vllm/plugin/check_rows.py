"""Runs ForcedTokens through random batches as vLLM's model runner would, and checks every row of every step.

Run by the Python that has vLLM, with ``rejoule_vllm`` on its path. It uses vLLM's own ``BatchUpdateBuilder`` and
repeats what its input batch does with it: removed rows are filled by new requests, then from the end, then some are
swapped.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from rejoule_vllm.forced_tokens import ForcedTokens
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import (
    BatchUpdateBuilder,
    MoveDirectionality,
)

VOCABULARY = 50


@dataclass(eq=False)
class Request:
    ids: list[int] | None
    prefill_steps: int
    output: list[int] = field(default_factory=list)


def check(seed: int, size: int) -> None:
    dice = random.Random(seed)
    config = SimpleNamespace(
        model_config=SimpleNamespace(get_vocab_size=lambda: VOCABULARY),
        scheduler_config=SimpleNamespace(max_num_seqs=size),
    )
    processor = ForcedTokens(config, torch.device("cpu"), False)
    batch: list[Request | None] = []
    waiting: list[Request] = []
    for _ in range(300):
        builder = BatchUpdateBuilder()
        for row, request in enumerate(batch):
            assert request is not None
            done = request.ids is not None and len(request.output) == len(request.ids)
            gone, preempted = done or dice.random() < 0.03, dice.random() < 0.05
            if gone or preempted:
                builder.removed_append(row)
                batch[row] = None
                if not gone:
                    request.prefill_steps = dice.randint(1, 3)
                    request.output = list(request.output)
                    waiting.append(request)
        if dice.random() < 0.5:
            count = dice.choice([1, 3, 40, 1500])
            ids = [dice.randrange(VOCABULARY) for _ in range(count)] if dice.random() < 0.8 else None
            waiting.append(Request(ids, dice.randint(1, 4)))
        dice.shuffle(waiting)
        while waiting and sum(r is not None for r in batch) < size and dice.random() < 0.8:
            add(builder, batch, waiting.pop())
        condense(builder, batch)
        if len(batch) > 1 and dice.random() < 0.2:
            a, b = dice.sample(range(len(batch)), 2)
            batch[a], batch[b] = batch[b], batch[a]
            builder.moved.append((a, b, MoveDirectionality.SWAP))
        processor.update_state(builder.get_and_reset(len(batch)))
        if not batch:
            continue
        logits = torch.randn(len(batch), VOCABULARY)
        before = logits.clone()
        after = processor.apply(logits)
        for row, request in enumerate(batch):
            assert request is not None
            if request.ids is None:
                assert torch.equal(after[row], before[row])
            else:
                allowed = torch.isfinite(after[row]).nonzero().flatten().tolist()
                assert allowed == [request.ids[len(request.output)]], (seed, row)
            request.prefill_steps -= 1
            if request.prefill_steps <= 0:
                request.output.append(-1)


def add(builder: BatchUpdateBuilder, batch: list[Request | None], request: Request) -> None:
    row = builder.pop_removed()
    if row is None:
        row = len(batch)
        batch.append(None)
    batch[row] = request
    extra = {} if request.ids is None else {"forced_token_ids": ",".join(map(str, request.ids))}
    builder.added.append((row, SamplingParams(max_tokens=2000, extra_args=extra), None, request.output))


def condense(builder: BatchUpdateBuilder, batch: list[Request | None]) -> None:
    while builder.removed:
        while batch and batch[-1] is None:
            batch.pop()
        row = builder.peek_removed()
        if row is None or row >= len(batch):
            return
        builder.pop_removed()
        batch[row] = batch.pop()
        builder.moved.append((len(batch), row, MoveDirectionality.UNIDIRECTIONAL))


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        check(number, (1, 2, 5, 16)[number % 4])
