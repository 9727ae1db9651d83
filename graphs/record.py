"""Records many workflows of one graph: when each begins, how many run at once, and where they are written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from langgraph.pregel import Pregel

from rejoule.graphs.capture import Judge, Net, Recording, Rewrite, ServerInfo
from rejoule.graphs.capture.exits import exits_contained
from rejoule.graphs.failures import failure, lacking
from rejoule.graphs.main_thread import MAIN, on_main
from rejoule.graphs.situation import Situation
from rejoule.graphs.success import Criterion
from rejoule.traces.arrivals import poisson_rate, poisson_times
from rejoule.traces.errors import RejouleError
from rejoule.traces.model import Call, Header, Task, ToolCall, Trace, Unrecorded, Workflow, WorkflowStatus
from rejoule.traces.words import counted
from rejoule.traces.work import account, sentences

DEFAULT_CONCURRENCY = 8


class Writer(Protocol):
    """What takes the records of a trace, as `rejoule.traces.store.TraceWriter` does."""

    def add(self, record: Call | ToolCall | Task) -> None: ...

    def close(self, workflow: Workflow) -> None: ...

    def tell(self, unrecorded: Iterable[Unrecorded]) -> None: ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recording is."""

    workflows: int
    """Workflows that have ended."""
    calls: int
    """Calls that have ended, failed ones included."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recording gave."""

    workflows: tuple[Workflow, ...]
    """In order of arrival."""
    unrecorded: tuple[Unrecorded, ...] = ()
    """What else reached the server."""
    stopped: bool = False
    """Whether it was cancelled; the workflows in progress are then interrupted ones, and others never began."""
    hint: str | None = None
    """What the first workflow that failed seems to have lacked, and what gives it."""

    unasked: int = 0
    """Answers given for interrupts, of all workflows that came to their end, that nothing asked for."""
    judged: bool = False
    """Whether somebody asked which of them reached their goal."""
    untold: Mapping[str, str] = field(default_factory=dict)
    """By workflow, why that is not known."""

    @property
    def failed(self) -> tuple[Workflow, ...]:
        return tuple(w for w in self.workflows if w.status == "failed")

    @property
    def called(self) -> bool:
        """Whether any LLM call was made."""
        return any(workflow.calls for workflow in self.workflows)

    def of_work(self) -> Iterator[str]:
        """What of the work no replay will do just as it was, each in a sentence."""
        yield from sentences(account(Trace(Header("", ""), self.workflows, self.unrecorded)))

    def remarks(self) -> Iterator[str]:
        """What a reader must know of the trace, each in a sentence."""
        if self.failed:
            hint = "" if self.hint is None else f"; {self.hint}"
            said = f"{counted(len(self.failed), 'workflow')} failed, and recorded as such"
            yield f"{said}; {failure(self.failed[0])}{hint}"
        yield from self.of_work()
        if not self.called:
            yield "no LLM call was made; the trace has nothing to replay"
        if stopped := sum(w.status == "interrupted" for w in self.workflows):
            answer = "answer it with --resume, in Python with resume=[…]"
            yield f"{counted(stopped, 'workflow')} stopped at an interrupt; {answer}"
        if self.unasked:
            yield f"{counted(self.unasked, 'answer')} to interrupts left over, as nothing asked"
        if self.judged and (unknown := sum(w.success is None for w in self.workflows)):
            why = next((f"; {workflow}: {reason}" for workflow, reason in self.untold.items()), "")
            yield f"of {counted(unknown, 'workflow')} it is not known whether they succeeded{why}"


async def record(
    graph: Pregel[Any, Any, Any, Any],
    inputs: Sequence[Any],
    *,
    server: ServerInfo,
    writer: Writer,
    model: str | None = None,
    name: str = "",
    concurrency: int = DEFAULT_CONCURRENCY,
    arrivals: str = "burst",
    seed: int = 0,
    resume: Sequence[Any] = (),
    config: Mapping[str, Any] | None = None,
    context: Any = None,
    net: Net | None = None,
    success: Criterion | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Recorded:
    """Runs the graph once for each input, at most ``concurrency`` at a time, and writes each workflow as it ends.

    ``net`` is the URL that the graph was given for the server's; without it, only what this process sends is seen.
    ``success`` is asked of each final state; a workflow that fails has not succeeded.

    ``arrivals`` is ``burst``, or ``poisson:RATE`` with workflows a second. ``resume`` answers the interrupts of every
    workflow. A workflow that fails is recorded as failed; a cancelled recording writes its workflows in progress as
    interrupted, and returns. Raises ``RejouleError`` where a call has no known place in
    the graph, once the other workflows are written.
    """
    if concurrency < 1:
        raise RejouleError(f"concurrency = {concurrency} lets no workflow begin", "give 1 or more")
    arrives = arrival_times(len(inputs), arrivals, seed)
    if (main := MAIN.get()) is not None:
        main.alone = min(concurrency, len(inputs)) == 1
    slots = asyncio.Semaphore(concurrency)
    calls = 0
    written: list[Workflow] = []

    def keep(record: Call | Task) -> None:
        nonlocal calls
        writer.add(record)
        if isinstance(record, Call):
            calls += 1
            on_progress(Progress(len(written), calls))

    recording = Recording(
        Rewrite(server, model, None if net is None else net.owner.net), graph=name, keep=keep, net=net
    )

    untold: dict[str, str] = {}
    judge = None if success is None else _judge(success, untold)

    async def one(input: Any, at: float) -> None:
        await asyncio.sleep(at)
        async with slots:
            workflow = await recording.workflow(
                graph, input, resume=resume, config=config, context=context, judge=judge
            )
        recording.exclusively(lambda: writer.close(workflow))
        written.append(workflow)
        on_progress(Progress(len(written), calls))

    stopped = False
    with recording.watching(), exits_contained():
        running = [asyncio.ensure_future(one(input, at)) for input, at in zip(inputs, arrives, strict=True)]
        try:
            results = await asyncio.gather(*running, return_exceptions=True)
        except asyncio.CancelledError:
            # By now each has written what it did.
            stopped = True
            results = await asyncio.gather(*running, return_exceptions=True)
    unrecorded = recording.unrecorded
    writer.tell(unrecorded)
    for result in results:
        if isinstance(result, BaseException) and not (stopped and isinstance(result, asyncio.CancelledError)):
            raise result
    workflows = tuple(sorted(written, key=lambda w: w.id))
    errors = (w.error for w in workflows if w.status == "failed")
    given = Situation(context, config or {})
    hint = next((found for error in errors if (found := lacking(graph, given, error or "")) is not None), None)
    return Recorded(workflows, unrecorded, stopped, hint, recording.unasked, success is not None, untold)


def _judge(criterion: Criterion, untold: dict[str, str]) -> Judge:
    """Notes in ``untold`` why it is not known of a workflow."""

    async def judge(workflow: str, status: WorkflowStatus, state: Any) -> bool | None:
        if status == "failed":
            return False
        if status == "interrupted":
            untold[workflow] = "it did not come to its end"
            return None
        found = await on_main(criterion.of, state)
        if found.reason is not None:
            untold[workflow] = found.reason
        return found.success

    return judge


def arrival_times(count: int, arrivals: str, seed: int) -> list[float]:
    """Seconds until each of ``count`` workflows begins."""
    rate = poisson_rate(arrivals, ("burst",))
    return [0.0] * count if rate is None else poisson_times(count, rate, seed)
