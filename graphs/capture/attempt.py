"""One HTTP attempt of a workflow, while it is under way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from rejoule.graphs.capture import several
from rejoule.graphs.capture.answer import Piece, parse
from rejoule.graphs.capture.reading import Chain, Readings
from rejoule.graphs.capture.rewrite import Outgoing, endpoint
from rejoule.graphs.places.hands import Control
from rejoule.traces.model import Call, Endpoint
from rejoule.traces.secrets import described, hidden

Clock = Callable[[], int]

UNFINISHED = "unfinished when the workflow ended"
LET_GO = "the client closed the stream before its end"


class Attempt:
    """Notes what comes back, and hands over its `Call` once, at its end, or a call for each of several answers."""

    def __init__(
        self,
        id: str,
        *,
        outgoing: Outgoing,
        task: str,
        node: str,
        workflow: str,
        run: UUID | None,
        readings: Readings,
        chain: Chain,
        attempt: int,
        by: Control | None = None,
        now: Clock,
        done: Callable[[Attempt, Call], None],
    ) -> None:
        self.id = id
        self.outgoing = outgoing
        self.task = task
        self.run = run
        self._node = node
        self._workflow = workflow
        self._attempt = attempt
        self._now = now
        self._done = done
        self._status: int | None = None
        self._streamed = False
        self._pieces: list[Piece] = []
        self._readings = readings
        self.begun_on = readings.here(chain, by)
        """What had been read, where it was sent, of answers that were still coming."""
        self._reading = readings.begin(id, task, chain, by)
        self._once = threading.Lock()
        self._submit_ns = now()

    def answered(self, status: int, streamed: bool) -> None:
        self._status, self._streamed = status, streamed

    def arrived(self, piece: bytes, ago_ns: int = 0) -> None:
        self._pieces.append((self._now() - ago_ns, piece))

    def taken(self) -> None:
        self._readings.take(self._reading)

    def ended(self) -> None:
        self._finish(None)

    def broke(self, error: BaseException) -> None:
        self._finish(described(error))

    def closed(self) -> None:
        at = self._now()

        def let_go() -> None:
            self._readings.close(self._reading)
            self._finish(LET_GO, at)

        self._readings.guard.soon(let_go)

    def read_on(self, task: str, taken: int, whole: bool) -> bool:
        """Whether a task that had read so much when it ended left somebody behind who read on.

        Where reading cannot be seen, an answer that came ``whole`` was read to its end.
        """
        reading = self._reading
        return whole if reading.unseen else reading.taken_in[task] > taken

    def pieces(self) -> tuple[Piece, ...]:
        """Of its body, as they came."""
        return tuple(self._pieces)

    def abandon(self) -> None:
        """The workflow ended before it."""
        self._finish(UNFINISHED)

    def disown(self) -> None:
        """In a forked process: it is the parent's to finish."""
        self._once.acquire(blocking=False)

    def _finish(self, error: str | None, end_ns: int | None = None) -> None:
        if not self._once.acquire(blocking=False):
            return
        end_ns = self._now() if end_ns is None else end_ns
        answer = None
        if self._status is not None:
            answer = parse(self.pieces(), status=self._status, streamed=self._streamed)
            if self._streamed and self._status == 200 and answer.error is None:
                if answer.whole:
                    # Clients stop at the last event, and may let go of the stream much later.
                    error, end_ns = None, self._pieces[-1][0]
                elif error is None:
                    error = "the server cut the stream before its end"
            error = error or (answer.error and hidden(answer.error))
        api: Endpoint = "chat" if endpoint(self.outgoing.url) == "chat/completions" else "completions"
        call = Call(
            id=self.id,
            workflow=self._workflow,
            task=self.task,
            node=self._node,
            endpoint=api,
            request=self.outgoing.recorded,
            submit_ns=self._submit_ns,
            end_ns=end_ns,
            attempt=self._attempt,
            status=self._status,
            error=error,
        )
        if answer is not None:
            call = replace(
                call,
                text=answer.text,
                tool_calls=answer.tool_calls,
                finish_reason=answer.finish_reason,
                prompt_token_ids=answer.prompt_token_ids,
                token_ids=answer.token_ids,
                prompt_tokens=answer.prompt_tokens,
                cached_tokens=answer.cached_tokens,
                output_tokens=answer.output_tokens,
                first_token_ns=answer.first_token_at,
                chunk_ns=tuple(at - self._submit_ns for at in answer.chunks_at),
                pieces=answer.pieces if answer.output_tokens is None else None,
            )
        for one in [call] if answer is None else several.calls(call, (answer, *answer.others)):
            self._done(self, one)
