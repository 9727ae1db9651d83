"""A recording from its server to its trace file: asks the server what it is, makes the graph, records, and closes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from rejoule.graphs.capture import Net, ServerInfo, probe
from rejoule.graphs.main_thread import on_main
from rejoule.graphs.record import DEFAULT_CONCURRENCY, Progress, Recorded, record
from rejoule.graphs.source import Source
from rejoule.graphs.success import criterion
from rejoule.traces.model import Header
from rejoule.traces.store import TraceWriter


class Wanted(Protocol):
    """What is to be recorded; `rejoule.graphs.source` has the two kinds."""

    @property
    def target(self) -> str:
        """Its name in the trace."""
        ...

    @property
    def seed(self) -> int: ...

    def source(self, server: ServerInfo) -> AbstractAsyncContextManager[Source]: ...


async def record_trace(
    wanted: Wanted,
    base_url: str,
    output: Path,
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    arrivals: str = "burst",
    resume: Sequence[Any] = (),
    success: str | Callable[[Any], Any] | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Recorded:
    """Records into ``output`` from the server whose API is at ``base_url``. Raises RejouleError as `record` does.

    ``success`` is what `criterion` takes.
    """
    server = await probe(base_url)
    with Net(server) as net, net.info.environment():
        async with wanted.source(server) as source:
            asked = None if success is None else await on_main(criterion, success)
            if asked is not None:
                asked.check(source.graph)
            header = Header(
                graph=wanted.target,
                model=source.model,
                server=server.description,
                settings=source.settings,
                seed=wanted.seed,
                recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
                rejoule_version=version("rejoule"),
            )
            with TraceWriter(output, header) as writer:
                return await record(
                    source.graph,
                    source.inputs,
                    server=server,
                    writer=writer,
                    model=source.model,
                    name=wanted.target,
                    concurrency=concurrency,
                    arrivals=arrivals,
                    seed=wanted.seed,
                    resume=resume,
                    config=source.situation.config,
                    context=source.situation.context,
                    net=net,
                    success=asked,
                    on_progress=on_progress,
                )
