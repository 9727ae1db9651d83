"""The only loop: it joins a schedule with an engine, whichever clock that has."""

from __future__ import annotations

from collections.abc import Callable

from rejoule.replay.engine import Answer, Engine
from rejoule.replay.schedule import Schedule


async def drive(
    schedule: Schedule, engine: Engine, on_answer: Callable[[Answer], None] = lambda _: None
) -> tuple[list[Answer], dict[str, float]]:
    """Sends every call when it is due, until nothing is left. Returns the answers and when each call was due.

    A failed call's dependants are not sent; they are in ``schedule.skipped``.
    """
    answers: list[Answer] = []
    due_s: dict[str, float] = {}
    while not schedule.done:
        for item in schedule.due(engine.now_s()):
            due_s[item.call.id] = item.due_s
            engine.send(item.call, item.ready_s)
        if schedule.done:
            break
        for answer in await engine.wait(schedule.next_due_s):
            if answer.error is None:
                schedule.finished(answer.call_id, answer.end_s)
            else:
                schedule.failed(answer.call_id, answer.end_s)
            answers.append(answer)
            on_answer(answer)
    return answers, due_s
