"""Mooncake's request traces: when a request came, how long it was, and which blocks of its prompt others had too.

One JSON object a line: ``timestamp`` in milliseconds, ``input_length`` and ``output_length`` in tokens, ``hash_ids``:
one for each block of 512 prompt tokens, the last one partial. Equal ids mean equal blocks after equal prefixes (Qin et
al., "Mooncake: Trading More Storage for Less Computation for Serving LLM Chatbot", FAST 2025; the traces lie in the
repository kvcache-ai/Mooncake). The words are not told, so token ids are made up: equal for equal hash ids.

Load generators add ``session_id`` and ``delay``: a turn follows its session's turn before by ``delay`` milliseconds.
A session becomes a workflow. The prompt of each turn is taken to be whole, with the turns before in it, as its hash
ids say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta, Struct

from rejoule.traces.decoding import DamagedError, decoded, lines_of
from rejoule.traces.errors import RejouleError
from rejoule.traces.made_tokens import MadeTokens
from rejoule.traces.model import Call, Edge, Header, Task, Workflow

BLOCK_TOKENS: Final = 512
GRAPH: Final = "mooncake"
ANSWERS: Final = 1 << 32
"""Numbers of made-up answers begin here, beyond every hash id."""
REMEDY: Final = "give a Mooncake trace: one JSON object a line with timestamp, input_length, output_length and hash_ids"


class _Request(Struct):
    input_length: Annotated[int, Meta(ge=1, le=10**7)]
    output_length: Annotated[int, Meta(ge=1, le=10**7)]
    hash_ids: list[Annotated[int, Meta(ge=0, lt=ANSWERS)]]
    timestamp: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    """Milliseconds, as is the delay."""
    session_id: str | int | None = None
    delay: Annotated[float, Meta(ge=0, le=1e12)] | None = None


FIELDS: Final = frozenset(_Request.__struct_fields__)


def header(path: Path, block_tokens: int = BLOCK_TOKENS) -> Header:
    """The header of the trace made of a file."""
    return Header(graph=GRAPH, model="any", settings={"file": path.name, "block_tokens": block_tokens})


def workflows(
    path: Path,
    *,
    limit: int | None = None,
    longest: int | None = None,
    block_tokens: int = BLOCK_TOKENS,
    left_out: Counter[str] | None = None,
) -> Iterator[Workflow]:
    """One workflow for each session, and for each line without one, in the order in which they begin in the file.

    Takes the first ``limit`` requests, without those of more than ``longest`` tokens, prompt and answer together; a
    session ends before its first such. ``left_out`` counts what the file says and the trace does not, or not as said.
    Raises RejouleError with the number of the first line that is wrong.
    """
    left_out = Counter() if left_out is None else left_out
    sessions: dict[object, list[_Request]] = {}
    cut: set[object] = set()
    count = 0
    for number, request in _requests(path, block_tokens, left_out):
        if limit is not None and count >= limit:
            break
        key: object = number if request.session_id is None else (request.session_id,)
        if key in cut:
            left_out["turns after one that is too long"] += 1
        elif longest is not None and request.input_length + request.output_length > longest:
            if request.session_id is not None:
                cut.add(key)
        else:
            sessions.setdefault(key, []).append(request)
            count += 1
    if not count:
        raise RejouleError(f"{path} has no request to take", REMEDY)
    blocks = MadeTokens(block_tokens, seed=0)
    made = 0
    for number, turns in enumerate(sessions.values()):
        yield _workflow(number, made, turns, blocks, block_tokens, left_out)
        made += len(turns)


def _requests(path: Path, block_tokens: int, left_out: Counter[str]) -> Iterator[tuple[int, _Request]]:
    """With the numbers of their lines."""
    decode, fields = msgspec.json.Decoder(_Request).decode, msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    try:
        with path.open("rb") as file:
            for number, line in enumerate(lines_of(file, compressed=False), 1):
                if not line.strip():
                    continue
                try:
                    request = decoded(line, decode)
                except DamagedError as error:
                    raise RejouleError(f"{path}, line {number}: {error}", REMEDY) from None
                _check(f"{path}, line {number}", request, block_tokens)
                for name, value in fields(line).items():
                    if name not in FIELDS and bytes(value) != b"null":
                        left_out[f"lines with the field {name!r}"] += 1
                yield number, request
    except DamagedError as error:
        raise RejouleError(f"{path}: {error}", REMEDY) from None
    except OSError as error:
        raise RejouleError(f"cannot read {path}: {error.strerror}", REMEDY) from error


def _check(place: str, request: _Request, block_tokens: int) -> None:
    needed = -(-request.input_length // block_tokens)
    if len(request.hash_ids) != needed:
        raise RejouleError(
            f"{place}: {request.input_length} tokens are {needed} blocks of {block_tokens}, "
            f"but it has {len(request.hash_ids)} hash ids",
            "give the size of its blocks with --block-tokens",
        )
    if request.session_id is None and request.timestamp is None:
        raise RejouleError(f"{place}: it has neither a timestamp nor a session_id", REMEDY)
    if request.session_id is None and request.delay:
        raise RejouleError(f"{place}: it has a delay and no session_id", "name the session whose turn it follows")


def _workflow(
    number: int, made: int, turns: Sequence[_Request], blocks: MadeTokens, size: int, left_out: Counter[str]
) -> Workflow:
    """The turns of one session, each after the one before; ``made`` requests came before it, in blocks of ``size``."""
    name = f"w{number:06d}"
    if turns[0].timestamp is None:
        left_out["sessions without a timestamp, which begin at 0"] += 1
    if turns[0].delay:
        left_out["delays of first turns, which follow none"] += 1
    arrival_ns = begun_ns = round((turns[0].timestamp or 0.0) * 1e6)
    calls: list[Call] = []
    for before, turn in zip([None, *turns], turns, strict=False):
        if before is not None:
            begun_ns = calls[-1].end_ns + round(_pause_ms(before, turn, left_out) * 1e6)
        calls.append(_call(f"{name}/c{len(calls):03d}", name, made + len(calls), turn, begun_ns, blocks, size))
    edges = [Edge(a.id, b.id, "observed") for a, b in pairwise(calls)]
    end_ns = calls[-1].end_ns
    task = Task(f"{name}/n000", name, "request", "", 0, arrival_ns, end_ns)
    return Workflow(name, GRAPH, arrival_ns, end_ns, tasks=(task,), calls=tuple(calls), edges=tuple(edges))


def _pause_ms(before: _Request, turn: _Request, left_out: Counter[str]) -> float:
    """Between a turn's end and the start of the next."""
    if turn.delay is not None:
        return turn.delay
    if turn.timestamp is None:
        return 0.0
    left_out["later turns' timestamps, taken as pauses after the turn before"] += 1
    return max(0.0, turn.timestamp - (before.timestamp or 0.0))


def _call(id: str, workflow: str, number: int, request: _Request, begun_ns: int, blocks: MadeTokens, size: int) -> Call:
    prompt = np.empty(request.input_length, dtype=np.int64)
    for i, block in enumerate(request.hash_ids):
        blocks.fill(prompt[i * size : (i + 1) * size], block)
    answer = np.empty(request.output_length, dtype=np.int64)
    for start in range(0, request.output_length, size):
        blocks.fill(answer[start : start + size], ANSWERS + number)
    return Call(
        id=id,
        workflow=workflow,
        task=f"{workflow}/n000",
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
