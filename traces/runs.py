"""Run folders: what was planned, the traces, and one folder for each finished run.

::

    experiment.json              the plan: traces, configurations, trials, order
    traces/NAME.jsonl.zst        the traces, so that the folder stands alone
    runs/ID/run.json             one run
    runs/ID/steps.jsonl.zst      the engine's steps in it, if it could be watched
    runs/ID/readings.jsonl.zst   what the GPUs' sensors said, if they were sampled

A run is written aside and moved into place whole, so a crash leaves finished runs and nothing else. Each JSON file
states the digest of its content, a run those of its other files, and the plan those of the traces: what was changed
since is refused by name.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from rejoule.traces import store
from rejoule.traces.decoding import DamagedError, decoded
from rejoule.traces.errors import RejouleError
from rejoule.traces.evicted import told_apart
from rejoule.traces.frames import Calls, run_columns
from rejoule.traces.loops import looped
from rejoule.traces.migrate import migrated_run
from rejoule.traces.model import Trace
from rejoule.traces.ran_on import check_one_thing
from rejoule.traces.rows import READINGS, STEPS, packed_rows, with_rows
from rejoule.traces.run import Configuration, Run
from rejoule.traces.seal import file_digest, sealed, unsealed
from rejoule.traces.tabular import Columns, Tabular
from rejoule.traces.work import account

FORMAT_VERSION: Final = 2
SEALED: Final = 2
"""The version of a plan from which on it has a seal."""
RUN_SEALED: Final = 3
"""The same of a run."""
EVICTED_APART: Final = 4
"""The version of a run from which on what was evicted from the prefix cache is no violation."""
LINES: Final = ("steps", "readings")
"""What of a run is kept in files of its own."""
OURS: Final = frozenset({"runs", "traces", "servers", "samples", "refused.json", ".experiment.json"})
"""What may lie in a run folder before its plan does."""
NO_FOLDER: Final = "make one with: rejoule replay TRACE -o RUNS"
AGAIN: Final = "replay the traces again into a new folder"

_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class PlannedRun:
    id: str
    trace: str
    configuration: Configuration
    trial: int


@dataclass(frozen=True, slots=True)
class Experiment:
    """Traces × configurations × trials, in the order in which they are run."""

    traces: Mapping[str, str]
    """Digest of each trace by its name."""
    runs: tuple[PlannedRun, ...]
    trials: int
    seed: int
    rejoule_version: str
    format_version: int = FORMAT_VERSION

    @property
    def configurations(self) -> tuple[Configuration, ...]:
        found: list[Configuration] = []
        for run in self.runs:
            if run.configuration not in found:
                found.append(run.configuration)
        return tuple(found)


@dataclass(frozen=True, repr=False)
class RunFolder(Tabular):
    """A run folder, read; as a table it has one row a run."""

    path: Path
    experiment: Experiment
    runs: tuple[Run, ...]
    """Finished runs by trace, batch size, power cap and trial, whatever order they ran in."""
    traces: Mapping[str, Trace]

    def __repr__(self) -> str:
        return f"<RunFolder {self.path}: {len(self.runs)} runs of {', '.join(self.traces)}>"

    @property
    def calls(self) -> Calls:
        """The calls of all runs, as a table of their own."""
        return Calls(self.runs)

    def columns(self) -> Columns:
        return run_columns(self.runs)


@contextmanager
def held_alone(path: Path, on_wait: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Keeps other processes from writing into a run folder, which is made if need be; waits for one that does.

    The lock is on the folder itself, leaves nothing in it, and goes with the process. ``on_wait`` is told of a wait.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        at = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        try:
            fcntl.flock(at, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait(f"waiting for another ReJoule, which writes into {path}")
            fcntl.flock(at, fcntl.LOCK_EX)
        yield
    finally:
        os.close(at)


def create(path: Path, experiment: Experiment, traces: Mapping[str, Trace]) -> None:
    """Starts a run folder, or adds to one that holds an experiment on the same traces."""
    try:
        if (path / "experiment.json").exists():
            held = read_experiment(path)
            if held.traces != experiment.traces:
                raise RejouleError(
                    f"{path} holds an experiment on other traces",
                    "choose a new folder, or replay the same trace: recording again makes another one",
                )
            known = {run.id for run in held.runs}
            more = tuple(run for run in experiment.runs if run.id not in known)
            if more:
                grown = replace(held, runs=(*held.runs, *more), trials=max(held.trials, experiment.trials))
                _write(path / "experiment.json", sealed(grown))
            return
        if path.is_dir() and (foreign := sorted({p.name for p in path.iterdir()} - OURS)):
            raise RejouleError(f"{path} holds other things ({foreign[0]})", "choose a new folder for the runs")
        (path / "runs").mkdir(parents=True, exist_ok=True)
        (path / "traces").mkdir(exist_ok=True)
        for name, trace in traces.items():
            store.save(trace, path / "traces" / f"{name}.jsonl.zst")
        _write(path / "experiment.json", sealed(experiment))
    except OSError as error:
        raise _unwritable(path, error) from error


def finished(path: Path) -> frozenset[str]:
    """Ids of the runs that a folder holds."""
    folder = path / "runs"
    try:
        return frozenset(p.name for p in folder.iterdir() if not p.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise _unwritable(path, error) from error


def save_run(path: Path, run: Run) -> None:
    """Adds a finished run to a run folder: wholly, or not at all."""
    aside, place = path / "runs" / f".{run.id}", path / "runs" / run.id
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, packed in packed_rows(run).items():
            _write(aside / name, packed)
        body = {f.name: getattr(run, f.name) for f in fields(run) if f.name not in LINES}
        _write(aside / "run.json", sealed(body | {"files": _files(aside)}))
        aside.rename(place)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise _unwritable(path, error) from error


def load_runs(path: Path) -> RunFolder:
    """Reads a run folder with its traces. Raises RejouleError if there is none, or none of its runs finished."""
    if path.exists() and not path.is_dir():
        raise RejouleError(f"{path} is not a run folder", NO_FOLDER)
    experiment = read_experiment(path)
    here = finished(path)
    runs = tuple(_planned(path, r) for r in sorted(experiment.runs, key=_reading_order) if r.id in here)
    if not runs:
        raise RejouleError(f"{path} holds no finished run", "run it again to take it up where it stopped")
    check_one_thing(runs, path)
    traces = {name: _trace(path, name, digest) for name, digest in experiment.traces.items()}
    return RunFolder(path, experiment, tuple(_accounted(run, traces.get(run.trace)) for run in runs), traces)


def _accounted(run: Run, trace: Trace | None) -> Run:
    if run.certificate.work is not None or trace is None:
        return run
    work = account(looped(trace, run.configuration.loops), {call.id: call for call in run.calls})
    return replace(run, certificate=replace(run.certificate, work=work))


def load_run(path: Path, run_id: str) -> Run:
    """One finished run of a folder."""
    return _read_run(path / "runs" / run_id)


def read_experiment(path: Path) -> Experiment:
    """What a run folder is to hold. Raises RejouleError if it is none, or damaged."""
    file = path / "experiment.json"
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise RejouleError(f"{path} is not a run folder", NO_FOLDER) from None
    except OSError as error:
        raise RejouleError(f"cannot read {file}: {error.strerror}", AGAIN) from error
    try:
        body = decoded(data, _object)
        plain = unsealed(body, required=_version(body) >= SEALED)
        if _version(body) > FORMAT_VERSION:
            raise RejouleError(f"{file} has format version {_version(body)}", "please update: pip install -U rejoule")
        return msgspec.convert(plain | {"format_version": FORMAT_VERSION}, Experiment)
    except (DamagedError, msgspec.ValidationError) as error:
        raise RejouleError(f"{file}: {error}", AGAIN) from None


def _trace(path: Path, name: str, digest: str) -> Trace:
    """A trace of a folder, which must be the one that was replayed."""
    file = path / "traces" / f"{name}.jsonl.zst"
    remedy = f"put the trace that was replayed there again: a copy of {name}, as it was recorded"
    try:
        trace = store.load(file)
    except RejouleError as error:
        raise RejouleError(error.what, remedy) from error
    if trace.edited or store.trace_digest(trace) != digest:
        raise RejouleError(f"{file} is not the trace that was replayed", remedy)
    return trace


def _planned(path: Path, planned: PlannedRun) -> Run:
    """A run that was made as it was planned."""
    folder = path / "runs" / planned.id
    run = _read_run(folder)
    if (run.trace, run.configuration, run.trial) != (planned.trace, planned.configuration, planned.trial):
        raise RejouleError(f"{folder} holds another run than {path / 'experiment.json'} says", _repeat(folder))
    return run


def _read_run(folder: Path) -> Run:
    file = folder / "run.json"
    try:
        run, files = _unpacked(file)
        file = folder
        if files is not None and (spoilt := _unlike(files, _files(folder))):
            file = folder / spoilt
            raise DamagedError("it is not the file that the run was written with")
        return with_rows(run, folder)
    except (OSError, DamagedError, msgspec.ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RejouleError(f"cannot read {file}: {why}", _repeat(folder)) from error


def _unpacked(file: Path) -> tuple[Run, dict[str, str] | None]:
    """A run without its lines, and the digests of the files that hold these; ``None`` before they were kept."""
    body = decoded(file.read_bytes(), _object)
    since = _version(body) >= RUN_SEALED
    plain = unsealed(body, required=since)
    files = msgspec.convert(plain.get("files"), dict[str, str]) if since else None
    run = msgspec.convert(migrated_run(plain, str(file)), Run)
    return run if _version(body) >= EVICTED_APART else told_apart(run), files


def _files(folder: Path) -> dict[str, str]:
    """Digests of the files of lines beside a run. Raises OSError."""
    return {name: file_digest(folder / name) for name in (STEPS, READINGS) if (folder / name).exists()}


def _unlike(wanted: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """The first file that is missing, too many, or another one."""
    return next((name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)), None)


def _version(body: Mapping[str, Any]) -> int:
    version = body.get("format_version")
    return version if isinstance(version, int) else 0


def _reading_order(run: PlannedRun) -> tuple[Any, ...]:
    """By batch size, then cap, then the other knobs: what is not set first, numbers as numbers."""
    c = run.configuration
    others = (_placed(getattr(c, field.name)) for field in fields(c))
    return (run.trace, _placed(c.max_num_seqs), _placed(c.power_cap_w), *others, run.trial)


def _placed(value: Any) -> tuple[Any, ...]:
    if value is None:
        return (0,)
    if isinstance(value, int | float):
        return (1, value)
    if isinstance(value, Mapping):
        return (2, tuple((name, _placed(value[name])) for name in sorted(value)))
    return (3, str(value))


def _write(path: Path, data: bytes) -> None:
    aside = path.with_name(f".{path.name}")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _unwritable(path: Path, error: OSError) -> RejouleError:
    return RejouleError(f"cannot write {path}: {error.strerror}", "choose a folder with room that you may write to")


def _repeat(folder: Path) -> str:
    return f"remove {folder} and run the experiment again"
