"""Which workflows of a run reached their goal, as recorded: how many, what each took, and why that is not known."""

from __future__ import annotations

from collections.abc import Iterable

from rejoule.traces.run import Run
from rejoule.traces.waits import served
from rejoule.traces.words import counted


def succeeded(run: Run) -> int | None:
    """Complete workflows that reached their goal, as recorded; ``None`` where one is not known, or the work changed."""
    return None if untold(run) else sum(map(bool, _told(run)))


def success_share(run: Run) -> float | None:
    """Of the complete workflows, from 0 to 1; ``None`` as in ``succeeded``."""
    count = succeeded(run)
    return None if count is None else count / len(served(run))


def success_j(run: Run) -> float | None:
    """GPU joules of the whole run for each workflow that succeeded; ``None`` where none did."""
    joules, count = run.energy.gpu_j, succeeded(run)
    return joules / count if joules is not None and count else None


def untold(run: Run) -> str | None:
    """Why it is not known how many succeeded; ``None`` where it is."""
    told = _told(run)
    unknown = told.count(None)
    if unknown == len(told):
        return "nobody said which workflows reached their goal"
    if _changed(run):
        return "whether workflows succeed at other lengths than recorded is not known"
    return f"of {unknown} of {len(told)} workflows it is not known whether they succeeded" if unknown else None


def success_notes(run: Run) -> Iterable[str]:
    """What a reader of joules a success must know; nothing where nobody asked."""
    told = _told(run)
    if not told or told.count(None) == len(told):
        return
    if (why := untold(run)) is not None:
        yield f"{why}, so joules a success are not known"
    elif not any(told):
        yield f"none of {counted(len(told), 'workflow')} succeeded, so there are no joules a success"
    else:
        yield f"{sum(map(bool, told))} of {counted(len(told), 'workflow')} succeeded, as judged when they were recorded"


def _told(run: Run) -> list[bool | None]:
    return [workflow.success for workflow in served(run)]


def _changed(run: Run) -> bool:
    """Whether calls are of other lengths than those whose workflows were judged."""
    return run.configuration.input_scale != 1.0 or run.configuration.output_scale != 1.0
