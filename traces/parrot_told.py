"""What a reader must know of a run that a Parrot server answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rejoule.traces.run import PARROT, Run
from rejoule.traces.words import counted


def parrot_notes(runs: Sequence[Run]) -> Iterator[str]:
    """What Parrot does not tell, and what of the workflows' order it was told; each once."""
    yield from dict.fromkeys(note for run in runs for note in _notes(run))


def _notes(run: Run) -> Iterator[str]:
    if not run.configuration.engine.startswith(PARROT):
        return
    yield (
        "Parrot tells no token counts, no first tokens and no finish reasons, and takes no exact lengths: answers are "
        "at most as long as recorded, and nothing proves how long they were"
    )
    yield "which of Parrot's scheduler flags are on is not known: all are off unless its ServeCore was told otherwise"
    told = run.engine.get("parrot")
    if isinstance(told, Mapping):
        yield (
            f"Parrot had {told['submitted_ahead']:,} of {counted(told['calls'], 'call')} before they were due, as a "
            "graph of its own; the others it was sent one by one when they were due, after the client's own time"
        )
        if told.get("behind") is None and run.energy.gpu_j is not None:
            yield "which server answers behind Parrot was not said (behind): nothing tells who else used its GPUs"
