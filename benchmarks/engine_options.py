"""How far off the simulator is where engine options are turned: python -m benchmarks.engine_options [--write].

Replays the kept workloads in virtual time with every setting of benchmarks/h200/options, which was measured on another
card and host than the profile's grid, and prints errors, and changes against the defaults beside the measured ones.
What the host does while the GPU waits (``host_serial_s``) is fitted to the runs of two workloads without asynchronous
scheduling, which are judged by the other two; nothing else is fitted to these runs. ``--write`` gives the profile that
constant, and what ``rejoule diff`` allows differences in these options for.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from statistics import fmean, median
from typing import Any, Final

import msgspec
import orjson
from benchmarks.differences import Figures, difference_errors, figures
from benchmarks.gpu.options import OPTIONS, TURNED, turned
from benchmarks.gpu.sensors import row
from benchmarks.validation import BLOCKS, DATA, PROFILE, ran

from rejoule.analysis.summary.summary import trials
from rejoule.analysis.validate import METRICS, validate
from rejoule.replay.sim.profile import OptionError, Profile
from rejoule.replay.sim.shipped import FOLDER, load_profile
from rejoule.traces.percentiles import percentile
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import load_runs
from rejoule.traces.summary import latencies_s

FITTED: Final = ("agentic", "sequential")
SYNCHRONOUS: Final = "async_scheduling=False"
EAGER: Final = "enforce_eager=True"
NEXT_S: Final = 0.002
"""A step that begins later than so long after the one before it had nothing to do."""
FEW: Final = 10
LEAST: Final = 1e-9
BATCH: Final = 64
_BY_NAME: Final = {metric.name: metric.value for metric in METRICS}
SHOWN: Final[Mapping[str, Callable[[Run], float | None]]] = {
    "workflow p50": lambda run: percentile(latencies_s(run)["workflow"], 50),
    "workflow mean": _BY_NAME["workflow time"],
    "first token": _BY_NAME["time to first token, mean"],
    "between tokens": _BY_NAME["time between tokens"],
    "makespan": _BY_NAME["makespan"],
    "energy": _BY_NAME["GPU energy"],
}
Cell = tuple[str, str]
"""A trace, and what is turned from its default."""


def simulated(profile: str = PROFILE, names: Iterable[str] | None = None) -> list[Run]:
    """Each setting of each workload, or of those of ``names``."""
    folder = load_runs(DATA / "options")
    traces = load_runs(DATA / "workloads").traces
    runs = []
    wanted = set(traces if names is None else names)
    for name, option in dict.fromkeys((run.trace, turned(run)) for run in folder.runs if run.trace in wanted):
        given = next(run.configuration.options for run in folder.runs if turned(run) == option)
        options: dict[str, Any] = {key: given[key] for key in OPTIONS if key in given} | {"num_gpu_blocks": BLOCKS}
        knobs = Configuration(profile=profile, max_num_seqs=BATCH, arrivals="burst", options=options)
        runs.append(ran(traces[name], knobs, name, f"{name} {option}"))
    return runs


def by_cell(runs: Iterable[Run]) -> dict[Cell, list[Run]]:
    found: dict[Cell, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.trace, turned(run)].append(run)
    return dict(found)


def serial_s(runs: Iterable[Run], profile: Profile) -> float:
    """By how much steps that only decode are longer without asynchronous scheduling, less ``host_per_request_s``.

    Medians by the number of sequences, of which the mean is taken, weighted by how often they were seen.
    """
    usual, serial = (_decodes(runs, option) for option in ("", SYNCHRONOUS))
    found = []
    for n, seconds in serial.items():
        count = min(len(seconds), len(usual.get(n, ())))
        if count > FEW:
            longer_s = median(seconds) - median(usual[n]) - profile.timing.host_per_request_s * n
            found.append((count, longer_s))
    return sum(count * longer_s for count, longer_s in found) / sum(count for count, _ in found)


def _decodes(runs: Iterable[Run], option: str) -> dict[int, list[float]]:
    """From the end of one step to that of the next, where both only decode, by the number of sequences."""
    found: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        if turned(run) == option:
            busy = [step for step in run.steps or () if not step.idle]
            for before, step in pairwise(busy):
                apart_s = step.start_s - before.end_s
                if not step.prefill and not before.prefill and apart_s < NEXT_S:
                    found[len(step.decode)].append((step.end_s - step.start_s) / step.steps + apart_s)
    return found


def table(sim: Mapping[Cell, Sequence[Run]], measured: Mapping[Cell, Sequence[Run]]) -> Iterator[str]:
    """For each setting and workload: how far each figure is off."""
    yield row("option", "workload", *SHOWN)
    yield row("---", "---", *["--:"] * len(SHOWN))
    for option, words in TURNED.items():
        for name in _workloads(measured):
            a, b = sim[name, option], measured[name, option]
            yield row(words, name, *(f"{_mean(value, a) / _mean(value, b) - 1:+.1%}" for value in SHOWN.values()))


def summaries(sim: Mapping[Cell, Sequence[Run]], measured: Mapping[Cell, Sequence[Run]]) -> Iterator[str]:
    """For each setting, the mean absolute error of each figure over the workloads, and the worst error."""
    yield row("option", *SHOWN)
    yield row("---", *["--:"] * len(SHOWN))
    for option, words in TURNED.items():
        cells = [(sim[name, option], measured[name, option]) for name in _workloads(measured)]
        errors = [[_mean(value, a) / _mean(value, b) - 1 for a, b in cells] for value in SHOWN.values()]
        yield row(words, *(f"{fmean(map(abs, e)):.1%}, {max(e, key=abs):+.1%}" for e in errors))


def changes(sim: Mapping[Cell, Sequence[Run]], measured: Mapping[Cell, Sequence[Run]], figure: str) -> Iterator[str]:
    """For each setting and workload, by how much a figure changes from the defaults: simulated, measured."""
    names = _workloads(measured)
    yield row(f"{figure}: simulated, measured", *names)
    yield row("---", *["--:"] * len(names))
    for option, words in TURNED.items():
        if option:
            told = [
                ", ".join(
                    f"{_mean(SHOWN[figure], side[name, option]) / _mean(SHOWN[figure], side[name, '']) - 1:+.1%}"
                    for side in (sim, measured)
                )
                for name in names
            ]
            yield row(words, *told)


def _workloads(runs: Mapping[Cell, Sequence[Run]]) -> list[str]:
    return list(dict.fromkeys(trace for trace, _ in runs))


CHANGES: Final = ("workflow p50", "energy")
JUDGED: Final = ("workflow latency p50", "makespan", "GPU energy", "time to first token p50", "joules by node")


def _mean(value: Callable[[Run], float | None], runs: Sequence[Run]) -> float:
    return fmean(found for run in runs if (found := value(run)) is not None)


def ratios(sim: Mapping[Cell, Figures], measured: Mapping[Cell, Figures]) -> Iterator[tuple[str, str, str, float]]:
    """(option, workload, figure, relative error of the predicted ratio to the defaults)."""
    for (trace, option), groups in measured.items():
        if not option:
            continue
        for group, names in groups.items():
            for name in names:
                pair = [s[cell].get(group, {}).get(name, 0.0) for s in (sim, measured)
                        for cell in ((trace, ""), (trace, option))]  # fmt: skip
                if min(pair) > LEAST:
                    yield option, trace, group, abs(pair[1] / pair[0] / (pair[3] / pair[2]) - 1.0)


def expected(found: Iterable[tuple[str, str, str, float]]) -> dict[str, OptionError]:
    """By option; that which a constant was fitted to is judged by the workloads that had no part in that."""
    errors: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    values: dict[str, set[Any]] = defaultdict(set)
    workloads: dict[str, set[str]] = defaultdict(set)
    for option, trace, group, error in found:
        # A setting of two options is known of the last one: the other was turned alone, too.
        name, _, value = option.split(", ")[-1].partition("=")
        values[name].add(orjson.loads(value.lower()))
        if option != SYNCHRONOUS or trace not in FITTED:
            errors[name][group].append(error)
            workloads[name].add(trace)
    return {
        name: OptionError(
            values=tuple(sorted(values[name])),
            workloads=tuple(sorted(workloads[name])),
            metrics=difference_errors(groups, len(workloads[name])),
        )
        for name, groups in errors.items()
    }


def _write(serial: float, options: Mapping[str, OptionError]) -> None:
    path = FOLDER / f"{PROFILE}.json"
    body = orjson.loads(path.read_bytes())
    if serial:
        body["timing"]["host_serial_s"] = round(serial, 7)
        body["sources"]["timing.host_serial_s"] = SOURCE
    body["expected_error"]["options"] = msgspec.to_builtins(options)
    path.write_bytes(msgspec.json.format(orjson.dumps(body), indent=2) + b"\n")


SOURCE: Final = (
    "python -m benchmarks.engine_options: decode steps without asynchronous scheduling against those with it, agentic "
    "and sequential of benchmarks/h200/options; another card and host than the grid's"
)


def main() -> None:
    measured = load_runs(DATA / "options").runs
    profile = load_profile(PROFILE)
    for names in (FITTED, sorted({run.trace for run in measured} - set(FITTED))):
        found_s = serial_s([run for run in measured if run.trace in names], profile)
        print(f"host_serial_s of {' and '.join(names)}: {1e3 * found_s:.2f} ms")
    if "--write" in sys.argv:
        _write(serial_s([run for run in measured if run.trace in FITTED], profile), {})
    sim = simulated()
    a, b = by_cell(sim), by_cell(measured)
    launched_ms = [1e3 * median(chain(*_decodes([run], EAGER).values())) for run in measured if turned(run) == EAGER]
    print(f"Decode steps without CUDA graphs, medians of runs: {min(launched_ms):.1f} to {max(launched_ms):.1f} ms")
    print("\nHow far simulated figures are off\n")
    print("\n".join(table(a, b)))
    print("\nThe same over workloads: mean of absolute errors, worst\n")
    print("\n".join(summaries(a, b)))
    for figure in CHANGES:
        print("\n" + "\n".join(changes(a, b, figure)))
    found = validate(sim, measured)
    print(f"\n{found.verdict}\n")
    for note in found.notes:
        print(f"note: {note}")
    known = [{cell: figures(trials(runs)) for cell, runs in side.items()} for side in (a, b)]
    options = expected(ratios(*known))
    print("\nPredicted ratios to the defaults against measured ones: median, worst\n")
    print(row("option", "workloads", *JUDGED))
    print(row("---", "---", *["--:"] * len(JUDGED)))
    for name, error in options.items():
        told = map(error.metrics.get, JUDGED)
        cells = ["–" if e is None else f"{e.median:.1%}, {e.worst:.1%}" for e in told]
        print(row(name, ", ".join(error.workloads), *cells))
    if "--write" in sys.argv:
        _write(0.0, options)


if __name__ == "__main__":
    main()
