"""Reads what the step tap of a vLLM server wrote. The format is described in ``rejoule_vllm/recorder.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rejoule.traces import RejouleError

_SEQUENCE = re.compile(r"(?:\d+_)?(?:chatcmpl-(?P<chat>.+)|cmpl-(?P<text>.+)-\d+|generate-tokens-(?P<tokens>.+))")


@dataclass(frozen=True, slots=True)
class TapRequest:
    """What one engine step did for one request."""

    id: str
    """The ``X-Request-Id`` with which it was sent, or the part that vLLM made up, as in ``chatcmpl-<id>``."""
    prefill: bool
    """Whether it computed its prompt, or again what a preemption threw away; otherwise it decoded."""
    computed_tokens: int
    context_tokens: int
    """Tokens already in the KV cache that the computed ones attended to."""
    cached_tokens: int
    """Tokens found in the prefix cache; only in the step in which the request was admitted, otherwise 0."""
    emitted_tokens: int
    """Output tokens; 1 also in the step that completes the prompt."""
    resumed: bool = False
    """Whether it was thrown out before: what it then prefills it computes again, tokens it had emitted included."""


@dataclass(frozen=True, slots=True)
class TapStep:
    """One engine step; times are of the monotonic clock of the server's machine."""

    number: int
    scheduled_ns: int
    """When it was decided; under asynchronous scheduling while the step before was still computed."""
    processed_ns: int
    """When its output had been taken over."""
    running: int
    waiting: int
    """Requests waiting once it was decided."""
    kv_usage: float
    """Share of the KV cache in use, 0 to 1."""
    requests: tuple[TapRequest, ...]
    preempted: tuple[str, ...] = ()
    """Requests thrown out since the step before."""


@dataclass(slots=True)
class _Request:
    id: str
    computed: int = 0
    target: int = 0
    cached: int = 0
    admissions: int = 0


def read_tap(path: Path) -> tuple[TapStep, ...]:
    """All steps in the file; a last line that was cut off is left out. Raises RejouleError if it is no tap."""
    return tuple(iterate_tap(path))


def read_tap_header(path: Path) -> dict[str, Any]:
    """What the server said of itself: version, limits, and both clocks at its start."""
    with path.open("rb") as file:
        return _header(path, file.readline())


def iterate_tap(path: Path) -> Iterator[TapStep]:
    """The steps in the file, one at a time: long runs of large batches hold millions of requests in steps."""
    with path.open("rb") as file:
        suffixed = bool(_header(path, file.readline())["id_suffix"])
        requests: dict[int, _Request] = {}
        batch: set[int] = set()
        for number, line in enumerate(file, start=2):
            if not line.endswith(b"\n"):
                return
            try:
                yield _step(orjson.loads(line), requests, batch, suffixed)
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise RejouleError(f"{path}, line {number}, is damaged: {error}", "record the run again") from error


def client_request_id(engine_id: str, *, suffixed: bool = True) -> str:
    """The id that the client gave, out of the one that the engine uses.

    vLLM (0.26 to 0.30) puts the route's prefix before it, numbers the prompts of a completion request and the
    sequences of one prompt, and appends ``-`` and eight random characters.
    """
    name = re.sub(r"-[0-9a-f]{8}$", "", engine_id) if suffixed else engine_id
    found = _SEQUENCE.fullmatch(name)
    return name if found is None else next(part for part in found.groups() if part is not None)


def _header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = orjson.loads(line)
        if header["rejoule_step_tap"] == 1 and "id_suffix" in header:
            return dict(header)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        pass
    raise RejouleError(f"{path} is no step tap", "give the file that a server wrote to REJOULE_STEP_TAP")


def _step(line: dict[str, Any], requests: dict[int, _Request], batch: set[int], suffixed: bool) -> TapStep:
    """One line as a step; ``requests`` and ``batch`` are carried from line to line."""
    preempted = tuple(requests[number].id for number in line.get("preempt", ()))
    for number, engine_id, _ in line.get("new", ()):
        requests[number] = _Request(client_request_id(engine_id, suffixed=suffixed))
    for number, cached, target in line.get("admit", ()):
        request = requests[number]
        request.computed, request.cached, request.target = cached, cached, target
        request.admissions += 1
    batch.difference_update(line.get("leave", ()))
    batch.update(line.get("join", ()))
    tokens = dict(line.get("tokens", ()))
    emitted = dict(line.get("out", ()))
    done = tuple(_advance(requests[n], tokens.get(n, 1), emitted.get(n, 1)) for n in sorted(batch))
    return TapStep(
        number=line["step"],
        scheduled_ns=line["at"],
        processed_ns=line["done"],
        running=line["running"],
        waiting=line["waiting"],
        kv_usage=line["kv"],
        requests=done,
        preempted=preempted,
    )


def _advance(request: _Request, computed: int, emitted: int) -> TapRequest:
    prefill = request.computed < request.target
    complete = request.computed + computed >= request.target
    done = TapRequest(
        id=request.id,
        prefill=prefill,
        computed_tokens=computed,
        context_tokens=request.computed,
        cached_tokens=request.cached,
        emitted_tokens=emitted if complete else 0,
        resumed=request.admissions > 1,
    )
    # Of draft tokens only the accepted ones stay, and those are emitted.
    request.computed += computed if prefill else emitted
    request.cached = 0
    return done
