"""Records workflows: runs graphs while watching the requests, the runs and the checkpoints of each."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlsplit
from weakref import WeakSet

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook
from langgraph.pregel import Pregel
from langgraph.types import StateSnapshot

from rejoule.graphs.capture.guard import Guard
from rejoule.graphs.capture.interrupts import UNANSWERED, Answers
from rejoule.graphs.capture.net import Net
from rejoule.graphs.capture.patching import SharedPatch
from rejoule.graphs.capture.rewrite import Outgoing, Rewrite, captured
from rejoule.graphs.capture.runs import SPOKEN
from rejoule.graphs.capture.task_context import CodeContext, current_context, subgraph_names
from rejoule.graphs.capture.threads import inherited_context
from rejoule.graphs.capture.wire import READING, Request, Watch, tapped
from rejoule.graphs.capture.workflow import WorkflowRecorder
from rejoule.graphs.capture.writes import WriteLog
from rejoule.graphs.places.hands import Control, of_hand
from rejoule.graphs.places.owners import BY, HEADER, INHERITED, Owner, origin, owned
from rejoule.graphs.places.processes import processes_told
from rejoule.traces.errors import RejouleError
from rejoule.traces.model import Call, Task, Unrecorded, Workflow, WorkflowStatus
from rejoule.traces.secrets import learn_headers

NOWHERE = "that no node was known to send"
OUTLIVED = "of a process that outlived the node that started it"
EARLY = "before the first workflow"
ENCRYPTED = "of a client that encrypts it for the server's own address"
NOT_CAPTURED = "is not captured"

Keep = Callable[[Call | Task], None]
Judge = Callable[[str, WorkflowStatus, Any], Awaitable[bool | None]]
"""Whether a workflow reached its goal, by its id, how it ended, and its final state."""

_CURRENT: ContextVar[WorkflowRecorder | None] = ContextVar("rejoule_workflow", default=None)
_HANDLER: ContextVar[BaseCallbackHandler | None] = ContextVar("rejoule_handler", default=None)
# LangChain adds the handler in this variable to every run in its context, whatever callbacks the run was given.
register_configure_hook(_HANDLER, inheritable=True)

_PROCESSES = SharedPatch(processes_told)
_THREADS = SharedPatch(lambda: inherited_context(lambda: _CURRENT.get() is not None))


_RECORDINGS: WeakSet[Recording] = WeakSet()


def _read(request: Request) -> bool:
    """Whether its body is there as a whole, and not a stream."""
    try:
        return isinstance(request.body, bytes)
    except Exception:
        return False


class StoppedError(Exception):
    """A workflow did not come to its end because its recording did not."""


@dataclass(frozen=True, slots=True)
class _PassedOn:
    """A request that goes to the recording's server, though it is part of no workflow."""

    outgoing: Outgoing

    def answered(self, status: int, streamed: bool) -> None: ...

    def arrived(self, piece: bytes, ago_ns: int = 0) -> None: ...

    def taken(self) -> None: ...

    def ended(self) -> None: ...

    def broke(self, error: BaseException) -> None: ...

    def closed(self) -> None: ...


class Recording:
    """One trace in the making. Workflows may run side by side: each call finds its own through its context.

    ``keep`` is given every call and task as it completes, in whichever thread it did, one at a time.
    """

    def __init__(
        self, rewrite: Rewrite, *, graph: str = "", keep: Keep = lambda record: None, net: Net | None = None
    ) -> None:
        self._missed: Counter[tuple[str, str | None]] = Counter()
        self._rewrite = rewrite
        self._graph = graph
        self._keep_record = keep
        self._net = net
        self._owner = net.owner if net is not None else Owner(rewrite.server.base_url, rewrite.server.base_url)
        self.unasked = 0
        """Answers to interrupts, of all workflows that came to their end, that nothing asked for."""
        self._fault: Exception | None = None
        self._origin_ns = time.monotonic_ns()
        self._session = uuid.uuid4().hex[:12]
        self._begun = 0
        self._active: set[WorkflowRecorder] = set()
        self._guard = Guard()
        _RECORDINGS.add(self)

    @property
    def unrecorded(self) -> tuple[Unrecorded, ...]:
        """Requests that reached the server, or were to, and are no calls of a workflow."""
        return tuple(
            Unrecorded(what, count, workflow)
            for (what, workflow), count in sorted(self._missed.items(), key=lambda item: (item[0][1] or "", item[0][0]))
        )

    def now(self) -> int:
        """Nanoseconds since the recording began."""
        return time.monotonic_ns() - self._origin_ns

    @contextmanager
    def watching(self) -> Iterator[Self]:
        """Sees requests while it is open."""
        if self._net is not None:
            self._net.reached = self._reached
            self._owner.place, self._owner.missed = self._place, self._encrypted
            for request in self._net.early:
                self._miss(request, EARLY, None)
        with owned(self._owner), tapped(self._listen), _THREADS.held(), _PROCESSES.held():
            yield self

    async def workflow(
        self,
        graph: Pregel[Any, Any, Any, Any],
        input: Any,
        *,
        turns: Sequence[Any] = (),
        resume: Sequence[Any] = (),
        config: Mapping[str, Any] | None = None,
        context: Any = None,
        judge: Judge | None = None,
    ) -> Workflow:
        """Runs the graph once, as a workflow of its own.

        ``turns`` are further inputs on the same thread; ``resume`` answers its interrupts, as `Answers` says.
        A workflow that is cancelled ends as interrupted, with what it did until then. ``judge`` is asked when it has
        ended, so what that takes is not the workflow's. Raises ``RejouleError`` for calls that nothing ties to a node.
        """
        with self._guard:
            recorder = WorkflowRecorder(
                f"w{self._begun:04d}", owner=self, now=self.now, keep=self._keep, guard=self._guard
            )
            self._begun += 1
            self._active.add(recorder)
        recorder.runs.subgraphs = subgraph_names(graph)
        log = WriteLog(graph.checkpointer, resumable=bool(turns or resume))
        run = _Run(graph, log, recorder, Answers(resume), dict(config or {}), context)
        status: WorkflowStatus
        error: BaseException | None
        try:
            # A task of its own keeps its context variables from this one's.
            status, error = await asyncio.create_task(run.turns([input, *turns]))
        except asyncio.CancelledError:
            status, error = "interrupted", StoppedError("the recording was stopped")
        finally:
            recorder.ended = True
            self._active.discard(recorder)
        self.unasked += run.answers.left if status == "done" else 0
        workflow = recorder.end(self._graph, input, status, error, log)
        self._check(recorder)
        if judge is not None:
            # Whoever stops the recording now keeps the workflow, unjudged.
            with suppress(asyncio.CancelledError):
                workflow = replace(workflow, success=await judge(workflow.id, status, run.state))
        return workflow

    def exclusively(self, write: Callable[[], None]) -> None:
        """Writes while nothing is being kept."""
        with self._guard:
            write()

    def _check(self, recorder: WorkflowRecorder) -> None:
        if self._fault is not None:
            raise self._fault
        if recorder.unplaced:
            raise RejouleError(
                f"{recorder.unplaced} of {recorder.id}'s calls came from a thread that knows no node",
                "start such threads inside the node, or pass the node's `config` to the model call there",
            )

    def _keep(self, record: Call | Task) -> None:
        with self._guard:
            try:
                self._keep_record(record)
            except Exception as error:
                # It must not surface inside the user's graph, which may catch and hide it.
                self._fault = self._fault or error

    def _listen(self, request: Request) -> Watch | None:
        """A request of the SDK, or one to this recording, sent by this process."""
        recorder, context = self._asker()
        if recorder is not None and recorder.owner is not self:
            return None
        if (
            self._net is not None
            and origin(request.url) == origin(self._net.owner.net)
            and (not captured(request.url) or context is None or not _read(request))
        ):
            # It is counted, or captured, where it arrives.
            if (place := self._net.owner.said()) is not None:
                request.inner.headers[HEADER] = place
            if not (request.marked and captured(request.url)):
                return None
        if recorder is None and not self._active:
            return None
        if not captured(request.url):
            self._miss(request, NOT_CAPTURED, recorder)
            return None
        learn_headers(request.headers)
        if recorder is not None and context is not None and not recorder.ended:
            return recorder.attempt(context, request.attempt, lambda id: self._fit(request, id))
        if not request.marked:
            self._miss(request, NOWHERE, recorder)
            return None
        for suspect in [recorder] if recorder is not None else list(self._active):
            suspect.unplaced += not suspect.ended
        return _PassedOn(self._fit(request, "unplaced"))

    def _reached(self, request: Request, place: str | None) -> Watch | None:
        """A request that came to the recording's own URL, with the place that it names."""
        place, _, hand = (place or "").partition(BY)
        recorder, context = self._found(place)
        if not captured(request.url):
            self._miss(request, NOT_CAPTURED, recorder)
            return None
        learn_headers(request.headers)
        if recorder is not None and context is not None and not recorder.ended:
            by: Control = of_hand(hand) if hand else (place, None)
            return recorder.attempt(context, request.attempt, lambda id: self._fit(request, id), by)
        outlived = bool(place) and recorder is not None
        self._miss(request, OUTLIVED if outlived else NOWHERE, recorder)
        return None

    def _encrypted(self, method: str, url: str) -> None:
        if method not in READING:
            self._miss(Request(method, url, [], None), ENCRYPTED, self._asker()[0])

    def _miss(self, request: Request, why: str, recorder: WorkflowRecorder | None) -> None:
        at, url = origin(request.url), urlsplit(request.url)
        here = at in (origin(self._rewrite.server.base_url), origin(self._owner.net))
        # Without the user or the query of a URL, which may be secret.
        elsewhere = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
        where = url.path if here or at is None else elsewhere
        with self._guard:
            self._missed[f"{request.method} {where} {why}", recorder.id if recorder is not None else None] += 1

    def _place(self) -> str | None:
        """The word for where the running code is."""
        recorder, context = self._asker()
        if recorder is None or context is None or recorder.owner is not self or recorder.ended:
            return None
        run = context.run.hex if context.run is not None else "-"
        return ".".join([self._session, *recorder.runs.task(context.task).id.split("/"), run])

    def _found(self, place: str) -> tuple[WorkflowRecorder | None, CodeContext | None]:
        """What a place's word stands for; no context where it need not hold any more."""
        session, *names = place.removesuffix(INHERITED).split(".")
        if session != self._session or len(names) != 3:
            return None, None
        workflow, task, run = names
        recorder = next((active for active in list(self._active) if active.id == workflow), None)
        if recorder is None:
            return None, None
        found = recorder.runs.named(f"{workflow}/{task}")
        if found is None or (place.endswith(INHERITED) and found.end_ns is not None):
            return recorder, None
        return recorder, CodeContext(found.context, None if run == "-" else uuid.UUID(run))

    def _forked(self) -> None:
        """In a child: all that was recorded so far is its parent's."""
        self._guard = Guard()
        self._keep_record = lambda record: None
        for recorder in list(self._active):
            recorder.disown()

    def _asker(self) -> tuple[WorkflowRecorder | None, CodeContext | None]:
        """Which workflow of this recording sends a request, and from where in it."""
        recorder, context = _CURRENT.get(), current_context()
        spoken = SPOKEN.get()
        if context is None and spoken is not None:
            runs, context = spoken
            recorder = next((active for active in list(self._active) if active.runs is runs), recorder)
        return recorder, context

    def _fit(self, request: Request, id: str) -> Outgoing:
        return self._rewrite(request.url, request.headers, request.body, f"{self._session}-{id.replace('/', '-')}")


class _Run:
    """One thread of a graph, in the sense of LangGraph: turns that share a checkpointer."""

    def __init__(
        self,
        graph: Pregel[Any, Any, Any, Any],
        log: WriteLog,
        recorder: WorkflowRecorder,
        answers: Answers,
        config: dict[str, Any],
        context: Any,
    ) -> None:
        self.answers = answers
        self.state: Any = None
        """After its last turn."""
        self._graph = graph.copy({"checkpointer": log})
        self._recorder = recorder
        self._config: Any = {
            **config,
            "configurable": {**config.get("configurable", {}), "thread_id": f"rejoule-{uuid.uuid4().hex}"},
        }
        self._options = {} if context is None else {"context": context}

    async def turns(self, inputs: Sequence[Any]) -> tuple[WorkflowStatus, Exception | None]:
        """Runs them one after another, answering interrupts as long as there are answers."""
        _CURRENT.set(self._recorder)
        _HANDLER.set(self._recorder.runs)
        try:
            for input in inputs:
                stopped = await self._turn(input)
                # A breakpoint asks for nothing, and wants no answer but to go on.
                while stopped.next and (command := self.answers.to(stopped)) is not UNANSWERED:
                    stopped = await self._turn(command)
            if stopped.next:
                return "interrupted", None
        except Exception as error:
            return "failed", error
        return "done", None

    async def _turn(self, input: Any) -> StateSnapshot:
        await self._graph.ainvoke(input, self._config, **self._options)
        self._recorder.runs.turn += 1
        stopped = await self._graph.aget_state(self._config)
        self.state = stopped.values
        return stopped


def _forked() -> None:
    for recording in list(_RECORDINGS):
        recording._forked()


os.register_at_fork(after_in_child=_forked)
