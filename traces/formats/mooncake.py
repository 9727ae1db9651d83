"""Mooncake's request traces: when a request came, how long it was, and which blocks of its prompt others had too.

One JSON object a line: ``timestamp`` in milliseconds, ``input_length`` and ``output_length`` in tokens, ``hash_ids``:
one for each block of 512 prompt tokens, the last one partial. Equal ids mean equal blocks after equal prefixes (Qin et
al., "Mooncake: Trading More Storage for Less Computation for Serving LLM Chatbot", FAST 2025; the traces lie in the
repository kvcache-ai/Mooncake). The words are not told, so token ids are made up: equal for equal hash ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct

from rejoule.traces.decoding import DamagedError, decoded, lines_of
from rejoule.traces.errors import RejouleError
from rejoule.traces.made_tokens import MadeTokens
from rejoule.traces.model import Call, Header, Task, Workflow

BLOCK_TOKENS: Final = 512
GRAPH: Final = "mooncake"
ANSWERS: Final = 1 << 32
"""Numbers of made-up answers begin here, beyond every hash id."""
REMEDY: Final = "give a Mooncake trace: one JSON object a line with timestamp, input_length, output_length and hash_ids"


class _Request(Struct):
    timestamp: Annotated[float, Meta(ge=0, le=1e12)]
    """Milliseconds."""
    input_length: Annotated[int, Meta(ge=1, le=10**7)]
    output_length: Annotated[int, Meta(ge=1, le=10**7)]
    hash_ids: list[Annotated[int, Meta(ge=0, lt=ANSWERS)]]


def header(path: Path, block_tokens: int = BLOCK_TOKENS) -> Header:
    """The header of the trace made of a file."""
    return Header(graph=GRAPH, model="any", settings={"file": path.name, "block_tokens": block_tokens})


def workflows(
    path: Path, *, limit: int | None = None, longest: int | None = None, block_tokens: int = BLOCK_TOKENS
) -> Iterator[Workflow]:
    """One workflow of one call for each line, in the order of the file, read as they are asked for.

    Takes the first ``limit`` requests, without those of more than ``longest`` tokens, prompt and answer together.
    Raises RejouleError with the number of the first line that is wrong.
    """
    decode = msgspec.json.Decoder(_Request).decode
    blocks = MadeTokens(block_tokens, seed=0)
    count = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(lines_of(file, compressed=False), 1):
                if limit is not None and count >= limit:
                    return
                if not line.strip():
                    continue
                try:
                    request = decoded(line, decode)
                except DamagedError as error:
                    raise RejouleError(f"{path}, line {number}: {error}", REMEDY) from None
                needed = -(-request.input_length // block_tokens)
                if len(request.hash_ids) != needed:
                    raise RejouleError(
                        f"{path}, line {number}: {request.input_length} tokens are {needed} blocks of {block_tokens}, "
                        f"but it has {len(request.hash_ids)} hash ids",
                        "give the size of its blocks with --block-tokens",
                    )
                if longest is None or request.input_length + request.output_length <= longest:
                    yield _workflow(count, request, blocks, block_tokens)
                    count += 1
    except DamagedError as error:
        raise RejouleError(f"{path}: {error}", REMEDY) from None
    except OSError as error:
        raise RejouleError(f"cannot read {path}: {error.strerror}", REMEDY) from error
    if not count:
        raise RejouleError(f"{path} has no request to take", REMEDY)


def _workflow(number: int, request: _Request, blocks: MadeTokens, block_tokens: int) -> Workflow:
    name = f"w{number:06d}"
    prompt = np.empty(request.input_length, dtype=np.int64)
    for i, block in enumerate(request.hash_ids):
        blocks.fill(prompt[i * block_tokens : (i + 1) * block_tokens], block)
    answer = np.empty(request.output_length, dtype=np.int64)
    for start in range(0, request.output_length, block_tokens):
        blocks.fill(answer[start : start + block_tokens], ANSWERS + number)
    begun_ns = round(request.timestamp * 1e6)
    call = Call(
        id=f"{name}/c000",
        workflow=name,
        task=f"{name}/n000",
        node="request",
        endpoint="completions",
        request={"model": "any", "max_tokens": request.output_length},
        submit_ns=begun_ns,
        end_ns=begun_ns + 1,
        status=200,
        finish_reason="length",
        prompt_token_ids=tuple(prompt.tolist()),
        token_ids=tuple(answer.tolist()),
        prompt_tokens=request.input_length,
        output_tokens=request.output_length,
    )
    task = Task(f"{name}/n000", name, "request", "", 0, begun_ns, begun_ns + 1)
    return Workflow(name, GRAPH, begun_ns, begun_ns + 1, tasks=(task,), calls=(call,))
