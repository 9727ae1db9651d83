"""The only loop: it joins a schedule with an engine, whichever clock that has."""

from __future__ import annotations

from collections.abc import Callable

from rejoule.replay.engine import Emitted, Engine
from rejoule.replay.schedule import Schedule
from rejoule.traces.run import CallResult


async def drive(
    schedule: Schedule, engine: Engine, on_answer: Callable[[CallResult], None] = lambda _: None
) -> list[CallResult]:
    """Sends every call when it is due, until nothing is left; what became of each, in the order in which they ended.

    A failed call's dependants are not sent; they are in ``schedule.skipped``. Those of a call that was refused are.
    """
    results: list[CallResult] = []
    while not schedule.done:
        for item in schedule.due(engine.now_s()):
            engine.send(item.call, item.due_s, item.ready_s, item.tell_at, item.priority)
        if schedule.done:
            break
        for result in await engine.wait(schedule.next_due_s):
            if isinstance(result, Emitted):
                schedule.emitted(result.id, result.tokens, result.at_s)
                continue
            if result.error is None or result.refused:
                schedule.finished(result.id, result.end_s)
            else:
                schedule.failed(result.id, result.end_s)
            results.append(result)
            on_answer(result)
    return results
