"""What scripts and notebooks need of ReJoule; nothing else is promised.

::

    import rejoule

    trace = rejoule.record(graph, [{"topic": "joules"}])
    runs = rejoule.replay_traces(trace, "runs", sweep={"max_num_seqs": [1, 8]})
    rejoule.energy(runs).to_pandas()

Importing this costs nothing: each function loads what it uses when it is called. All of them raise ``RejouleError``,
whose message says what is wrong and what to do, and warn with ``RejouleWarning`` of what a reader must know. The
functions can be called from code that runs in an event loop, as a notebook's does; only ``record_async`` is awaited.
"""

from __future__ import annotations

from contextvars import ContextVar as _ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from os import PathLike
    from pathlib import Path
    from typing import ParamSpec, TypeVar

    from rejoule.analysis.attribution import Attribution
    from rejoule.analysis.diff import Diff
    from rejoule.analysis.energies import Energies
    from rejoule.analysis.energy import Split
    from rejoule.traces.errors import RejouleError, RejouleWarning
    from rejoule.traces.model import Trace
    from rejoule.traces.run import Configuration, Run
    from rejoule.traces.runs import RunFolder

    Runs = RunFolder | str | PathLike[str]
    P = ParamSpec("P")
    T = TypeVar("T")

__all__ = [
    "Configuration",
    "RejouleError",
    "RejouleWarning",
    "RunFolder",
    "Trace",
    "attribute",
    "diff",
    "energy",
    "open_runs",
    "open_trace",
    "record",
    "record_async",
    "replay_traces",
    "report",
    "run_experiment",
    "save_trace",
]


async def record_async(
    graph: Any,
    inputs: Sequence[Any] = (),
    *,
    engine: str = "sim",
    workflows: int | None = None,
    output: str | PathLike[str] | None = None,
    name: str | None = None,
    model: str | None = None,
    config: Mapping[str, Any] | None = None,
    context: Any = None,
    resume: Sequence[Any] = (),
    success: str | Callable[[Any], bool | None] | None = None,
    settings: Mapping[str, Any] | None = None,
    concurrency: int = 8,
    arrivals: str = "burst",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Trace:
    """Runs a LangGraph graph live, once for each input, and records what it asks of the LLM server.

    ``graph`` is compiled, a builder, a function or context manager that makes one (given ``config``, if it takes an
    argument), ``"FILE.py:GRAPH"``, ``"langgraph.json:NAME"``, or the name of a workload (``"agentic"``, with its sizes
    in ``settings``). Its OpenAI clients are sent to ``engine``: ``"sim"``,
    the embedded one, whose words are made up; ``"vllm"``, started with ``options``; or the URL of a server.
    ``workflows`` is how many to run where that is not one an input; at most ``concurrency`` run at once, and begin by
    ``arrivals``: ``"burst"`` or ``"poisson:RATE"``. ``config`` and ``context`` go to every run of the graph, ``resume``
    answers its interrupts. ``success`` tells of a final state whether its workflow reached its goal: a function,
    ``"FILE.py:FUNCTION"``, or a test of a key as in ``"score>=0.5"``; without it nobody knows. The trace is also
    written to ``output``, if given; over one that is there with ``force``. Workflows that fail are recorded as failed;
    an interrupted recording leaves what it has in ``output``, and raises.
    """
    import asyncio
    from contextlib import ExitStack
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from rejoule.graphs.session import record_trace
    from rejoule.graphs.source import wanted
    from rejoule.replay.engines.engine_url import open_engine
    from rejoule.traces.errors import RejouleError
    from rejoule.traces.store import load

    asked = wanted(
        graph,
        inputs,
        name=name,
        model=model,
        workflows=workflows,
        seed=seed,
        settings=settings or {},
        config=config,
        context=context,
    )
    for remark in asked.remarks():
        _warn(remark)
    given = {"model": model, "seed": seed, **(options or {})}
    with ExitStack() as held:
        folder = Path(held.enter_context(TemporaryDirectory()))
        path = Path(output) if output is not None else folder / "trace.jsonl"
        if path.exists() and not force:
            raise RejouleError(f"{path} exists", "give another output, or force=True to write over it")
        url = await asyncio.to_thread(held.enter_context, open_engine(engine, given, folder))
        recorded = await record_trace(
            asked, url, path, concurrency=concurrency, arrivals=arrivals, resume=resume, success=success
        )
        if recorded.stopped:
            kept = f"{output} holds what was recorded" if output is not None else "nothing is kept without an output"
            _warn(f"the recording was interrupted; {kept}")
            raise asyncio.CancelledError
        for remark in recorded.remarks():
            _warn(remark)
        return load(path)


def _waited(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """``work`` for code that does not await."""

    @wraps(work)
    def waiting(*args: P.args, **options: P.kwargs) -> T:
        from rejoule.graphs.main_thread import beside_main

        token = _WAITING.set(_line())
        try:
            return beside_main(lambda: work(*args, **options))
        finally:
            _WAITING.reset(token)

    waiting.__name__ = waiting.__qualname__ = work.__name__.removesuffix("_async")
    return waiting


record = _waited(record_async)


def open_trace(path: str | PathLike[str], *, salvage: bool = False) -> Trace:
    """Reads a trace; ``salvage`` takes what is complete of a cut one."""
    from pathlib import Path

    from rejoule.traces.store import EDITED, load

    trace = load(Path(path), salvage=salvage)
    if trace.edited:
        _warn(f"{path} {EDITED}")
    return trace


def save_trace(trace: Trace, path: str | PathLike[str], *, force: bool = False) -> None:
    """Writes a trace: JSON lines, compressed if the name ends in ``.zst``; over what is there with ``force``."""
    from pathlib import Path

    from rejoule.traces.errors import RejouleError
    from rejoule.traces.model import Trace
    from rejoule.traces.store import save

    _expect(trace, Trace, "trace", "give the trace first, then the path")
    if Path(path).exists() and not force:
        raise RejouleError(f"{path} exists", "give another path, or force=True to write over it")
    save(trace, Path(path))


def replay_traces(
    traces: Trace | str | PathLike[str] | Mapping[str, Trace] | Iterable[str | PathLike[str]],
    folder: str | PathLike[str],
    configuration: Configuration | Mapping[str, Any] | None = None,
    *,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    trials: int = 1,
    seed: int | None = None,
    progress: bool = True,
) -> RunFolder:
    """Replays traces under every combination of the swept knobs, into a run folder, and takes up what is there.

    ``traces`` is one, a file, several files, or traces by name. ``configuration`` holds the knobs that stay (its
    engine is ``"sim"`` by default; ``seed`` is its seed too); ``sweep`` the values of those that vary:
    ``{"max_num_seqs": [1, 8], "power_cap_w": [400]}``.
    """
    from collections.abc import Mapping
    from dataclasses import asdict
    from os import PathLike
    from pathlib import Path

    from rejoule.replay.experiment import check_traces, load_traces, trace_name
    from rejoule.replay.plan import configurations
    from rejoule.traces.errors import RejouleError
    from rejoule.traces.model import Trace
    from rejoule.traces.run import Configuration
    from rejoule.traces.work import account, sentences

    if isinstance(traces, Trace):
        named = {trace_name(traces): traces}
    elif isinstance(traces, Mapping):
        named = dict(traces)
    else:
        files = [traces] if isinstance(traces, str | PathLike) else list(traces)
        if any(isinstance(file, Trace) for file in files):
            raise RejouleError("several traces need names", 'give a mapping: {"name": trace}')
        named = load_traces(map(Path, files))
    check_traces(named)
    for name, trace in named.items():
        for sentence in sentences(account(trace)):
            _warn(f"{name}: {sentence}")
    knobs = configuration if configuration is not None else Configuration()
    knobs = {
        **(asdict(knobs) if isinstance(knobs, Configuration) else knobs),
        **({} if seed is None else {"seed": seed}),
    }
    return _made(named, Path(folder), configurations(knobs, sweep or {}), trials, knobs.get("seed", 0), progress)


def run_experiment(experiment: str | PathLike[str], folder: str | PathLike[str], *, progress: bool = True) -> RunFolder:
    """Replays as an experiment file (TOML) says, into a run folder, and takes up what is there."""
    from pathlib import Path

    from rejoule.replay.cli.experiment_file import read
    from rejoule.replay.experiment import load_traces

    file = read(Path(experiment))
    return _made(load_traces(file.traces), Path(folder), file.configurations, file.trials, file.seed, progress)


def open_runs(folder: Runs) -> RunFolder:
    """Reads a run folder. ``to_pandas()`` gives one row a run, ``calls.to_pandas()`` one a call of a run."""
    from os import PathLike
    from pathlib import Path

    from rejoule.traces.runs import RunFolder, load_runs

    if isinstance(folder, RunFolder):
        return folder
    _expect(folder, (str, PathLike), "runs", "give a run folder, or its path")
    return load_runs(Path(folder))


def energy(runs: Runs, *, by: Split = "node", where: Mapping[str, Any] | None = None, force: bool = False) -> Energies:
    """Where the joules of each trace went under each configuration: means over its trials.

    ``by`` is ``"node"``, ``"agent"``, ``"phase"``, ``"workflow"`` or ``"workload"``; ``where`` keeps the runs with
    these values of knobs; ``force`` shows joules by node that are withheld because their fit is poor.
    """
    from collections.abc import Mapping

    from rejoule.analysis.energies import Energies
    from rejoule.analysis.energy import error_notes, spent
    from rejoule.analysis.pairing import select

    _expect(where or {}, Mapping, "where", 'give knobs and their values: {"max_num_seqs": 8}')
    everything = open_runs(runs).runs
    chosen = select(everything, where or {})
    return Energies(by, spent(chosen, by, everything, force), error_notes(chosen))


def attribute(run: Run) -> Attribution | None:
    """Where one run's joules went, call by call; ``None`` where none were measured or modelled."""
    from rejoule.analysis.attribution import attribute
    from rejoule.traces.run import Run

    _expect(run, Run, "run", "give one run of a folder: runs.runs[0]")
    return attribute(run)


def diff(
    runs_a: Runs,
    runs_b: Runs | None = None,
    *,
    a: Mapping[str, Any] | None = None,
    b: Mapping[str, Any] | None = None,
    allow_different_work: bool = False,
    allow_modelled: bool = False,
    allow_rejected: bool = False,
    force: bool = False,
) -> Diff:
    """What changed from side A to side B, and how sure that is.

    ``a`` and ``b`` choose the runs of each side by their knobs; without ``runs_b`` both come from ``runs_a``. Runs that
    did different work, and modelled joules with measured ones, are compared only if that is allowed; joules that a run
    says not to use get a verdict only if that is. ``notes`` say what stands against reading it.
    """
    from collections.abc import Mapping

    from rejoule.analysis.diff import compare
    from rejoule.analysis.pairing import in_turns, pair, select

    for name, side in (("a", a or {}), ("b", b or {})):
        _expect(side, Mapping, name, 'give knobs and their values: {"max_num_seqs": 8}')
    side_a = open_runs(runs_a)
    side_b = side_a if runs_b is None else open_runs(runs_b)
    chosen = select(side_a.runs, a or {}), select(side_b.runs, b or {})
    pairs = pair(*chosen, allow_different_work=allow_different_work, allow_modelled=allow_modelled)
    turns = side_a is side_b and in_turns([run.id for run in side_a.experiment.runs], pairs)
    return compare(pairs, force, allow_rejected, turns)


def report(
    runs: Runs, output: str | PathLike[str] = "report.html", *, title: str | None = None, force: bool = False
) -> Path:
    """Writes runs as one self-contained page of pictures; ``force`` writes over a file that is no report."""
    from pathlib import Path

    from rejoule.analysis.report import file, render
    from rejoule.traces.refused import load_refused

    path, folder = Path(output), open_runs(runs)
    file.check(path, force)
    page = render(folder.runs, folder.traces, folder.experiment, title, load_refused(folder.path))
    file.write(path, page.encode())
    return path


_LAZY = {
    "Configuration": "rejoule.traces.run",
    "RejouleError": "rejoule.traces.errors",
    "RejouleWarning": "rejoule.traces.errors",
    "RunFolder": "rejoule.traces.runs",
    "Trace": "rejoule.traces.model",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LAZY:
        raise AttributeError(f"module 'rejoule' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _made(
    traces: Mapping[str, Trace],
    folder: Path,
    configurations: Sequence[Configuration],
    trials: int,
    seed: int,
    progress: bool,
) -> RunFolder:
    from rejoule.replay.cli.progress import Progress
    from rejoule.replay.execute import execute, planned
    from rejoule.replay.remarks import between_runs, remarks
    from rejoule.traces.runs import finished, load_runs

    experiment = planned(traces, configurations, trials=trials, seed=seed)
    with Progress(experiment, folder, traces, show="bars" if progress else "nothing") as watched:
        execute(experiment, traces, folder, watched)
    if watched.refused and not finished(folder):
        raise watched.refused[0]
    for run in watched.runs:
        for remark in remarks(run):
            _warn(remark.text)
    for reason in dict.fromkeys(map(str, watched.refused)):
        _warn(f"runs are left out: {reason}")
    made = load_runs(folder)
    for note in between_runs(made.runs):
        _warn(note)
    return made


def _expect(value: object, kind: type | tuple[type, ...], name: str, remedy: str) -> None:
    from rejoule.traces.errors import RejouleError

    if not isinstance(value, kind):
        raise RejouleError(f"{name} cannot be a {type(value).__name__}", remedy)


def _warn(text: str) -> None:
    """Warns each time, at the line of the caller's that led here."""
    import warnings

    from rejoule.traces.errors import RejouleWarning

    name, line = _WAITING.get() or _line()
    warnings.warn_explicit(text, RejouleWarning, name, line, registry={})


def _line() -> tuple[str, int]:
    """The caller's file and line; where it is in another thread, where that thread began."""
    import sys

    frame = sys._getframe()
    while frame.f_back is not None and (frame.f_globals.get("__name__") or "").partition(".")[0] in ("rejoule", *_WAYS):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


_WAITING: _ContextVar[tuple[str, int] | None] = _ContextVar("rejoule_waiting", default=None)
"""The line of a caller who waits for a coroutine, which may run in another thread."""

_WAYS = ("asyncio", "concurrent", "threading", "contextvars")
"""What lies between a caller and the coroutine that it waits for."""
