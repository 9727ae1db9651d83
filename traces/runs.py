"""Run folders: what was planned, the traces, and one folder for each finished run.

::

    experiment.json              the plan: traces, configurations, trials, order
    traces/NAME.jsonl.zst        the traces, so that the folder stands alone
    runs/ID/run.json             one run
    runs/ID/steps.jsonl.zst      the engine's steps in it, if it could be watched
    runs/ID/readings.jsonl.zst   what the GPUs' sensors said, if they were sampled

A run is written aside and moved into place whole, so a crash leaves finished runs and nothing else.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
import orjson
import zstandard

from rejoule.traces import store
from rejoule.traces.decoding import DamagedError, decoded, lines_of
from rejoule.traces.errors import RejouleError
from rejoule.traces.frames import Calls, run_columns
from rejoule.traces.loops import looped
from rejoule.traces.migrate import migrated_run
from rejoule.traces.model import Trace
from rejoule.traces.run import Configuration, Reading, Run, Step, configuration_key
from rejoule.traces.tabular import Columns, Tabular
from rejoule.traces.work import account

T = TypeVar("T")

FORMAT_VERSION: Final = 1
LINES: Final = ("steps", "readings")
"""What of a run is kept in files of its own."""
OURS: Final = frozenset({"runs", "traces", "servers", "samples", "refused.json", ".experiment.json"})
"""What may lie in a run folder before its plan does."""
NO_FOLDER: Final = "make one with: rejoule replay TRACE -o RUNS"
AGAIN: Final = "replay the traces again into a new folder"

Count = Annotated[int, msgspec.Meta(ge=0)]


class _StepRow(msgspec.Struct, array_like=True, frozen=True):
    """A line of ``steps.jsonl.zst``; calls are named by their place in the run."""

    start_s: float
    end_s: float
    steps: Count
    energy_j: float | None
    sm_clock_mhz: float | None
    cap_bound: bool | None
    prefill: tuple[tuple[int, Count, Count], ...]
    decode: tuple[tuple[int, Count], ...]
    preempted: tuple[int, ...]
    prefill_context: tuple[Count, ...] = ()
    decode_context: tuple[Count, ...] = ()


_STEP: Final = msgspec.json.Decoder(_StepRow).decode


class _ReadingRow(msgspec.Struct, array_like=True, frozen=True):
    """A line of ``readings.jsonl.zst``."""

    start_s: float
    end_s: float
    energy_j: float
    sm_clock_mhz: float | None
    memory_clock_mhz: float | None
    temperature_c: float | None
    hbm_w: float | None
    cap_bound: float | None
    throttled: float | None
    gpus_j: tuple[float, ...] = ()


_READING: Final = msgspec.json.Decoder(_ReadingRow).decode


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
                _write(path / "experiment.json", orjson.dumps(grown, option=orjson.OPT_INDENT_2))
            return
        if path.is_dir() and (foreign := sorted({p.name for p in path.iterdir()} - OURS)):
            raise RejouleError(f"{path} holds other things ({foreign[0]})", "choose a new folder for the runs")
        (path / "runs").mkdir(parents=True, exist_ok=True)
        (path / "traces").mkdir(exist_ok=True)
        for name, trace in traces.items():
            store.save(trace, path / "traces" / f"{name}.jsonl.zst")
        _write(path / "experiment.json", orjson.dumps(experiment, option=orjson.OPT_INDENT_2))
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
        body = {f.name: getattr(run, f.name) for f in fields(run) if f.name not in LINES}
        _write(aside / "run.json", orjson.dumps(body, option=orjson.OPT_INDENT_2))
        if run.steps is not None:
            _write(aside / "steps.jsonl.zst", _packed(_step_row(run), run.steps))
        if run.readings is not None:
            _write(aside / "readings.jsonl.zst", _packed(astuple, run.readings))
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
    runs = tuple(_read_run(path / "runs" / r.id) for r in sorted(experiment.runs, key=_reading_order) if r.id in here)
    if not runs:
        raise RejouleError(f"{path} holds no finished run", "run it again to take it up where it stopped")
    traces = {name: store.load(path / "traces" / f"{name}.jsonl.zst") for name in experiment.traces}
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
    return _converted(data, Experiment, file, _experiment)


def _read_run(folder: Path) -> Run:
    file = folder / "run.json"
    try:
        run = _converted(file.read_bytes(), Run, file, migrated_run)
        steps = _rows(folder / "steps.jsonl.zst", _STEP)
        readings = _rows(folder / "readings.jsonl.zst", _READING)
        return replace(
            run,
            steps=None if steps is None else _steps(steps, run),
            readings=None if readings is None else tuple(Reading(*msgspec.structs.astuple(row)) for row in readings),
        )
    except (OSError, DamagedError) as error:
        raise RejouleError(f"cannot read {folder}: {error}", "remove it and run the experiment again") from error


def _converted(data: bytes, kind: type[T], file: Path, migrated: Callable[[dict[str, Any], str], dict[str, Any]]) -> T:
    try:
        body = decoded(data, msgspec.json.decode)
        return msgspec.convert(migrated(body, str(file)) if isinstance(body, dict) else body, kind)
    except (DamagedError, msgspec.ValidationError) as error:
        raise RejouleError(f"{file}: {error}", AGAIN) from None


def _experiment(body: dict[str, Any], name: str) -> dict[str, Any]:
    version = body.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise RejouleError(f"{name} has format version {version}", "please update: pip install -U rejoule")
    return body


def _packed(row: Callable[[T], Any], items: Iterable[T]) -> bytes:
    lines = b"".join(orjson.dumps(row(item), option=orjson.OPT_APPEND_NEWLINE) for item in items)
    return zstandard.ZstdCompressor(level=6).compress(lines)


def _rows(file: Path, decode: Callable[[bytes], T]) -> list[T] | None:
    """The rows of a file of lines; ``None`` without one. Raises DamagedError."""
    if not file.exists():
        return None
    rows: list[T] = []
    try:
        with file.open("rb") as packed:
            for line in lines_of(packed, compressed=True):
                rows.append(decoded(line, decode))  # noqa: PERF401  # an error names its line
    except DamagedError as error:
        raise DamagedError(f"{file.name}, line {len(rows) + 1}: {error}") from None
    return rows


def _step_row(run: Run) -> Callable[[Step], Sequence[Any]]:
    # Calls are named by their place in the run: a step names each call of its batch, which is most of the file.
    place = {call.id: i for i, call in enumerate(run.calls)}

    def row(step: Step) -> Sequence[Any]:
        return (
            step.start_s,
            step.end_s,
            step.steps,
            step.energy_j,
            step.sm_clock_mhz,
            step.cap_bound,
            [(place[call], new, cached) for call, new, cached in step.prefill],
            [(place[call], tokens) for call, tokens in step.decode],
            [place[call] for call in step.preempted],
            step.prefill_context,
            step.decode_context,
        )

    return row


def _steps(rows: Sequence[_StepRow], run: Run) -> tuple[Step, ...]:
    names = [call.id for call in run.calls]

    def step(row: _StepRow) -> Step:
        prefill, decode, preempted = row.prefill, row.decode, row.preempted
        if any(not 0 <= i < len(names) for i in (*(p[0] for p in prefill), *(d[0] for d in decode), *preempted)):
            raise DamagedError("a step names a call that the run does not have")
        return Step(
            start_s=row.start_s,
            end_s=row.end_s,
            steps=row.steps,
            energy_j=row.energy_j,
            sm_clock_mhz=row.sm_clock_mhz,
            cap_bound=row.cap_bound,
            prefill=tuple((names[i], new, cached) for i, new, cached in prefill),
            decode=tuple((names[i], tokens) for i, tokens in decode),
            preempted=tuple(names[i] for i in preempted),
            prefill_context=row.prefill_context,
            decode_context=row.decode_context,
        )

    return tuple(map(step, rows))


def _reading_order(run: PlannedRun) -> tuple[str, int, float, str, int]:
    c = run.configuration
    return (run.trace, c.max_num_seqs or 0, c.power_cap_w or 0.0, configuration_key(c), run.trial)


def _write(path: Path, data: bytes) -> None:
    aside = path.with_name(f".{path.name}")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _unwritable(path: Path, error: OSError) -> RejouleError:
    return RejouleError(f"cannot write {path}: {error.strerror}", "choose a folder with room that you may write to")
