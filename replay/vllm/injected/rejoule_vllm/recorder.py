"""Writes what every engine step did, as lines of JSON, at a cost of microseconds a step.

The first line describes the server. Every other line is one engine step; requests have small numbers in it::

    {"step": 7, "at": ns, "done": ns, "running": 2, "waiting": 0, "kv": 0.01,
     "new": [[3, "chatcmpl-x-1a2b3c4d", prompt tokens]],   first seen
     "admit": [[3, cached, tokens]],      starts (again) with this many computed, and computes up to so many first
     "join": [3], "leave": [1],           the batch, against that of the step before
     "tokens": [[3, 512]],                tokens computed, where it is not one
     "preempt": [2],                      thrown out since the step before
     "out": [[3, 0]]}                     tokens emitted, where it is not what it should be: one by each request that
                                          has computed all it started with

so that a step in which the same requests decode on is written without visiting them. Times are of the monotonic clock.
"""

from __future__ import annotations

import atexit
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

FLUSH_S = 0.2
BACKLOG_LINES = 200_000

logger = logging.getLogger("vllm.rejoule")


class Writer:
    """Appends lines to a file from a thread of its own; gives up, quietly for its caller, when the file fails."""

    def __init__(self, path: Path) -> None:
        self.alive = True
        self._path = path
        self._lines: deque[str] = deque()
        self._stop = threading.Event()
        try:
            self._file: BinaryIO = path.open("wb")
        except OSError as error:
            self._give_up(error)
            return
        self._thread = threading.Thread(target=self._run, name="rejoule-step-tap", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, line: str) -> None:
        if self.alive:
            self._lines.append(line)
            if len(self._lines) > BACKLOG_LINES:
                self._give_up(OSError("the disk does not keep up"))

    def close(self) -> None:
        """Writes what is left; waits no more than a second for a disk that hangs."""
        self._stop.set()
        if self.alive:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        try:
            with self._file:
                while not self._stop.wait(FLUSH_S):
                    self._drain()
                self._drain()
        except OSError as error:
            self._give_up(error)

    def _drain(self) -> None:
        if not self._lines:
            return
        self._file.write("".join(self._lines.popleft() for _ in range(len(self._lines))).encode())
        self._file.flush()

    def _give_up(self, error: OSError) -> None:
        self.alive = False
        self._lines.clear()
        logger.warning("step tap %s is off: %s", self._path, error)


@dataclass(slots=True)
class _Step:
    output: Any
    number: int
    at_ns: int
    running: int
    waiting: int
    kv_usage: float
    changes: dict[str, Any]
    unfinished: frozenset[str]
    """Requests that have more to compute before they emit."""
    finished: set[str]


class Recorder:
    """Turns a vLLM scheduler's inputs and outputs into lines.

    ``scheduled`` and ``processed`` are called for every ``SchedulerOutput``, in the same order; several may have been
    scheduled before the first is processed.
    """

    def __init__(self, writer: Writer, header: Mapping[str, Any], *, speculative: bool = False) -> None:
        self.writer = writer
        self._speculative = speculative
        self._numbers: dict[str, int] = {}
        self._count = 0
        self._step = 0
        self._batch: Mapping[str, int] = {}
        self._left: dict[str, int] = {}
        """Tokens that a request still computes before it emits."""
        self._preempted: list[str] = []
        self._finished: set[str] = set()
        self._pending: deque[_Step] = deque()
        writer.write(_dump({"rejoule_step_tap": 1, **header}) + "\n")

    def preempted(self, request_id: str) -> None:
        self._preempted.append(request_id)
        self._left.pop(request_id, None)

    def scheduled(
        self, output: Any, requests: Mapping[str, Any], *, running: int, waiting: int, kv_usage: float
    ) -> None:
        """``output`` was decided: a ``SchedulerOutput``; ``requests`` are the scheduler's, as it left them."""
        tokens: Mapping[str, int] = output.num_scheduled_tokens
        if output.finished_req_ids:
            self._finished |= output.finished_req_ids
            for request_id in output.finished_req_ids:
                self._left.pop(request_id, None)
        if not tokens:
            return
        changes: dict[str, Any] = {}
        if self._preempted:
            changes["preempt"] = [self._numbers[i] for i in self._preempted if i in self._numbers]
            self._preempted = []
        admitted = [r.req_id for r in output.scheduled_new_reqs]
        admitted += sorted(output.scheduled_cached_reqs.resumed_req_ids)
        if admitted:
            self._admit(admitted, tokens, requests, changes)
        if tokens.keys() != self._batch.keys():
            numbers = self._numbers
            changes["join"] = sorted(numbers[i] for i in tokens.keys() - self._batch.keys())
            changes["leave"] = sorted(numbers[i] for i in self._batch.keys() - tokens.keys())
        if output.total_num_scheduled_tokens != len(tokens):
            changes["tokens"] = [(self._numbers[i], n) for i, n in tokens.items() if n != 1]
        unfinished: frozenset[str] = frozenset()
        if self._left:
            left = {i: n - tokens.get(i, 0) for i, n in self._left.items()}
            self._left = {i: n for i, n in left.items() if n > 0}
            unfinished = frozenset(self._left.keys() & tokens.keys())
        self._batch = tokens
        finished, self._finished = self._finished, set()
        step = _Step(output, self._step, time.monotonic_ns(), running, waiting, kv_usage, changes, unfinished, finished)
        self._step += 1
        self._pending.append(step)

    def processed(self, output: Any, results: Mapping[int, Any]) -> None:
        """``output`` was computed; ``results`` are the ``EngineCoreOutputs`` for each client."""
        now = time.monotonic_ns()
        tokens: Mapping[str, int] = output.num_scheduled_tokens
        if not tokens:
            return
        step = self._pending.popleft()
        while step.output is not output:
            step = self._pending.popleft()
        emitting = sum([len(r.outputs) for r in results.values()])
        if self._speculative or emitting != len(tokens) - len(step.unfinished):
            self._note_emitted(step, results)
        for request_id in step.finished:
            self._numbers.pop(request_id, None)
        rest = f",{_dump(step.changes)[1:]}" if step.changes else "}"
        self.writer.write(
            f'{{"step":{step.number},"at":{step.at_ns},"done":{now},"running":{step.running},'
            f'"waiting":{step.waiting},"kv":{step.kv_usage:.4f}{rest}\n'
        )

    def _admit(
        self, admitted: list[str], tokens: Mapping[str, int], requests: Mapping[str, Any], changes: dict[str, Any]
    ) -> None:
        changes["admit"] = []
        for request_id in admitted:
            request = requests[request_id]
            if request_id not in self._numbers:
                self._numbers[request_id] = self._count
                changes.setdefault("new", []).append((self._count, request_id, request.num_prompt_tokens))
                self._count += 1
            # The scheduler has already counted this step's tokens as computed.
            cached = request.num_computed_tokens - tokens[request_id]
            self._left[request_id] = request.num_tokens - cached
            changes["admit"].append((self._numbers[request_id], cached, request.num_tokens))

    def _note_emitted(self, step: _Step, results: Mapping[int, Any]) -> None:
        emitted = {o.request_id: len(o.new_token_ids) for r in results.values() for o in r.outputs}
        odd = {i: emitted.get(i, 0) for i in step.output.num_scheduled_tokens if i not in step.unfinished}
        step.changes["out"] = [(self._numbers[i], n) for i, n in odd.items() if n != 1]


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
