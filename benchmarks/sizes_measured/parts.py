"""What ``gpu/two_sizes.sh`` measured: a grid of each model, and the workloads on the largest; on which card, by which
server, and what of it is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path, PurePath
from typing import Final

from benchmarks.gpu.sensors import row
from benchmarks.quick import ALONE
from benchmarks.sizes import CUT, LARGE, SMALL
from benchmarks.validation import PROFILE
from tests.replay.calibration.made import readings

from rejoule.replay.sim.shipped import load_profile, model_names
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs

SHORT: Final = {SMALL: "8B", CUT: "16 layers", LARGE: "32B"}
CALLS: Final = (64, 8, 1)
"""At a time."""
WORKLOADS: Final = ("agentic", "composite", "interactive", "sequential")
MEASURE: Final = "benchmarks/gpu/two_sizes.sh MODEL OUT measures it"


@dataclass(frozen=True, slots=True)
class Part:
    """A folder of runs of one model: as it was measured, and as it is kept."""

    made: str
    kept: str
    model: str


GRIDS: Final = (
    Part("small", "sizes-8b", SMALL),
    Part("cut", "sizes-16-layers", CUT),
    Part("large", "sizes-32b", LARGE),
)
JUDGE: Final = Part("judge", "sizes-workloads", LARGE)
PARTS: Final = (*GRIDS, JUDGE)


@dataclass(frozen=True, slots=True)
class Measured:
    """The runs of each part that is there, and what must be said of them."""

    runs: Mapping[Part, Sequence[Run]]
    notes: tuple[str, ...]

    @property
    def grids(self) -> dict[str, Sequence[Run]]:
        """By model."""
        return {part.model: self.runs[part] for part in GRIDS if part in self.runs}

    @property
    def workloads(self) -> Sequence[Run]:
        return self.runs.get(JUDGE, ())


def read(folder: Path, given: Mapping[Part, Path | None], *, stand_in: bool = False) -> Measured:
    """The parts in ``folder``, by the name of one that was made or is kept, or where they are ``given``.

    Simulated runs may ``stand_in``. Raises RejouleError for them otherwise, for a folder that is given and not there,
    and for runs of another model.
    """
    runs, notes = {}, []
    for part in PARTS:
        path = given.get(part) or next((p for n in (part.kept, part.made) if (p := folder / n).is_dir()), None)
        if path is None:
            notes.append(f"{part.kept}: not in {folder}, left out; {MEASURE}")
            continue
        found = [run for run in load_runs(path).runs if (part is JUDGE) is not _is_grid(run)]
        if not found:
            notes.append(
                f"{path}: has no run of {'the workloads' if part is JUDGE else 'the grid'}, left out; {MEASURE}"
            )
            continue
        notes += dict.fromkeys(note for run in found if (note := _of_model(run, part)) is not None)
        runs[part] = [_measured(run, stand_in) for run in found]
    if not runs:
        words = ", ".join(f"{part.kept} or {part.made}" for part in PARTS)
        raise RejouleError(f"{folder} holds none of {words}", MEASURE)
    if stand_in:
        notes.append("nothing was measured: simulated runs stand in, which proves the way and nothing of a GPU")
    return Measured(runs, (*notes, *_apart(runs), *_cells(runs.get(JUDGE, ()))))


def _is_grid(run: Run) -> bool:
    return any(call.node == ALONE for call in run.calls)


def _of_model(run: Run, part: Part) -> str | None:
    """That the name of its server's model is nobody's, and which it is taken for."""
    told = PurePath(str(run.engine.get("model") or run.configuration.options.get("model") or "")).name
    if told == part.model or (not told and run.configuration.engine == "sim"):
        return None
    if told in model_names():
        raise RejouleError(f"{run.id} is of {told}", f"give a folder of {part.model} for {part.made}")
    return f"{run.trace}: its server calls the model {told or 'nothing'}, taken for {part.model}"


def _measured(run: Run, stand_in: bool) -> Run:
    if run.configuration.engine != "sim":
        return run
    if not stand_in:
        raise RejouleError(f"{run.id} was simulated", "give measured runs, or --stand-in to try the way without any")
    knobs = replace(run.configuration, engine="vllm", profile=None)
    return replace(run, configuration=knobs, readings=readings(run))


def _apart(runs: Mapping[Part, Sequence[Run]]) -> Iterator[str]:
    """That parts are not known to be of one card, host and server: what differs would be taken for one of sizes."""
    around = [run.conditions for each in runs.values() for run in each]
    told: dict[str, list[str | None]] = {
        "kind of GPU": [", ".join(sorted(set(c.gpu_names))) if c and c.gpu_names else None for c in around],
        "card": [", ".join(c.gpus) if c and c.gpus else None for c in around],
        "host": [c.host if c else None for c in around],
        "driver": [c.driver if c else None for c in around],
        "version of vLLM": [run.engine.get("version") for each in runs.values() for run in each],
    }
    for what, values in told.items():
        known = {value for value in values if value is not None}
        if len(known) > 1:
            words = ", ".join(sorted(known))
            yield (
                f"**the parts are of {len(known)} different {what}s** ({words}): what these differ by is taken for the "
                "sizes' or the model's"
            )
        if len(known) and None in values:
            yield f"the {what} of {values.count(None)} of {len(values)} runs is not known"
        elif not known and values:
            yield f"the {what} is not known of any run"
    own = load_profile(PROFILE).gpu.name
    if strange := {kind for kind in told["kind of GPU"] if kind is not None} - {own}:
        yield f"**measured on {', '.join(sorted(strange))}**: data sheet, limits and first guesses are those of {own}"


def _cells(runs: Sequence[Run]) -> Iterator[str]:
    if not runs:
        return
    trials = Counter((run.trace, run.configuration.concurrency) for run in runs)
    if missing := [f"{name} x {calls}" for name, calls in product(WORKLOADS, CALLS) if (name, calls) not in trials]:
        yield f"workloads that are not there, and not judged: {', '.join(missing)}"
    if single := sum(count == 1 for count in trials.values()):
        yield (
            f"{single} of {len(trials)} cells of the workloads are of one trial, whose mean first token may be off by "
            "more than a model's: python -m benchmarks.first_token_noise"
        )


def table(runs: Mapping[Part, Sequence[Run]]) -> Iterator[str]:
    """Of each part where it ran, and how often."""
    yield row("part", "model", "card", "host", "server", "seats", "KV blocks", "runs", "trials")
    yield row(*["---"] * 5, *["--:"] * 4)
    for part, each in runs.items():
        around = [run.conditions for run in each if run.conditions is not None]
        engines = [run.engine for run in each]
        trials = Counter((run.trace, run.configuration.concurrency) for run in each).values()
        yield row(
            part.kept,
            part.model,
            _words(gpu[:12] for c in around for gpu in c.gpus),
            _words(c.host for c in around),
            _words(f"{e['engine']} {e['version']}" if "version" in e else None for e in engines),
            _words(run.configuration.max_num_seqs for run in each),
            _words(e.get("num_gpu_blocks") for e in engines),
            len(each),
            _words(sorted(trials)),
        )


def _words(values: Iterable[object]) -> str:
    found = dict.fromkeys(str(value) for value in values if value is not None)
    return ", ".join(found) or "not known"
