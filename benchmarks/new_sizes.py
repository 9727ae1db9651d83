"""What it takes a server longer to launch a number of tokens that it has not met: python -m benchmarks.new_sizes.

Of the kept runs on one H200 each no model is asked: how much longer launches without CUDA graphs took the first and the
second time that their server met their size (the tokens of the step) than later ones of that size there, whether sizes
beside it help, and whether it is the host or the GPU that takes longer. Then what a model of it would be worth, in
first trials after a server's start: simulated with the launches that other runs tell, with what new sizes take on top,
and with the launches of those very trials, which is the most that any model of launches can know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import sqrt
from statistics import fmean
from typing import Final, NamedTuple

from benchmarks.first_token_noise import server
from benchmarks.first_tokens import of_host
from benchmarks.full_kv import load_of
from benchmarks.full_kv_measured import SEED, own_profile
from benchmarks.validation import CARDS, DATA, PROFILE, in_virtual_time, ran, written
from msgspec.structs import replace

from rejoule.analysis.validate import METRICS
from rejoule.replay.calibration.observations import observed_steps
from rejoule.replay.sim.latency import LatencyModel
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.model import Trace
from rejoule.traces.run import Run
from rejoule.traces.runs import RunFolder, load_runs

REPEATED: Final = ("workloads-watched", "workloads", "options", "scheduling/batching")
"""Folders of the kept workloads in several trials, from a server's start on."""
OWN_GRID: Final = ("unseen-workloads", "unseen-workloads-trials", "full-kv")
"""Folders of a card whose quick grid was measured, too."""
FOLDERS: Final = {
    **{name: (name,) for name in (*REPEATED, "scheduling/policies", *OWN_GRID)},
    "grids": ("grid", "grid-other-host", "unseen-grid", "unseen-grid-second", "unseen-grid-trials"),
    "other loads": ("additivity", "additivity-long", "weights", "company"),
}
"""What is shown in one row."""
BLOCK: Final = 16
"""Sizes that round up to the same multiple of so many tokens are neighbours."""
FIRST: Final = "time to first token, mean"
WORKFLOW: Final = "workflow time"
JUDGED: Final = {metric.name: metric.value for metric in METRICS if metric.name in (FIRST, WORKFLOW)}
PLAIN: Final = ("enforce_eager", "async_scheduling")
"""Options that change what a launch is."""


class Launch(NamedTuple):
    """One without CUDA graphs, in seconds: for so long it held up the decode step before it."""

    host_s: float
    step_s: float
    """What is left of the step then."""
    beside: bool
    """Whether its server had met a neighbour of its size."""
    run: str


class Size(NamedTuple):
    """A number of tokens on one server, by its launches in order. One is ``None`` if how long it took is unknown: where
    nothing was computed before it, or prompts or many steps were."""

    server: str
    launches: Sequence[Launch | None]

    def later(self, at: int, seconds: Callable[[Launch], float], run: str | None = None) -> list[float]:
        """Of the launches after so many, of one run or of all."""
        return [seconds(each) for each in self.launches[at:] if each and (run is None or each.run == run)]


class Beyond(NamedTuple):
    """By how many seconds one launch took longer than the mean of later ones of its size."""

    server: str
    beyond_s: float


def plain(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if not any(name in run.configuration.options for name in PLAIN)]


def sizes(name: str, folder: RunFolder) -> list[Size]:
    """Of all servers of a folder, whose runs follow each other as planned."""
    profile = load_profile(PROFILE)
    runs = {run.id: run for run in plain(folder.runs)}
    found: dict[tuple[str, int], list[Launch | None]] = defaultdict(list)
    blocks: set[tuple[str, int]] = set()
    for run in (runs[planned.id] for planned in folder.experiment.runs if planned.id in runs):
        own = name + server(run)
        for before, step in pairwise(observed_steps(run)):
            work = step.work
            tokens = work.prefill_tokens + work.decodes
            if not work.prefills or tokens <= LatencyModel(profile, step.seats).captured_tokens:
                continue
            block = own, -(-tokens // BLOCK)
            seen = not (work.first or before.work.prefills or before.steps > 1)
            launch = Launch(before.each_s, step.duration_s, block in blocks, run.id)
            found[own, tokens].append(launch if seen else None)
            blocks.add(block)
    return [Size(own, launches) for (own, _), launches in found.items()]


def launched_s(launch: Launch) -> float:
    return launch.host_s


def computed_s(launch: Launch) -> float:
    return launch.step_s


def beyond(
    found: Iterable[Size], at: int, seconds: Callable[[Launch], float] = launched_s, same: bool = False
) -> Iterator[tuple[Launch, Beyond]]:
    """The launch after so many of each size against later ones: all of them, or those of the ``same`` run."""
    for size in found:
        each = size.launches[at] if at < len(size.launches) else None
        if each is not None and (rest := size.later(at + 1, seconds, each.run if same else None)):
            yield each, Beyond(size.server, seconds(each) - fmean(rest))


def new_share(name: str, folder: RunFolder, first: bool) -> float | None:
    """Of the launches of first or of later trials, those of sizes that their server had not met; ``None`` of none."""
    runs = {run.id for run in folder.runs if (run.trial == 0) is first}
    met = [i for size in sizes(name, folder) for i, each in enumerate(size.launches) if each and each.run in runs]
    return met.count(0) / len(met) if met else None


def told_ms(found: Iterable[Beyond]) -> str:
    """Mean and standard error, launches of one server taken together, in ms, and how many."""
    by_server: dict[str, list[float]] = defaultdict(list)
    for each in found:
        by_server[each.server].append(1e3 * each.beyond_s)
    every = [ms for own in by_server.values() for ms in own]
    if len(every) < 2:
        return "–"
    mean = fmean(every)
    # One server shows how single launches scatter, and not how servers do.
    groups = by_server.values() if len(by_server) > 2 else [[ms] for ms in every]
    error = sqrt(sum(sum(ms - mean for ms in own) ** 2 for own in groups)) / len(every)
    return f"{mean:+.1f} ± {error:.1f} ({len(every)})"


def launch_table(found: Mapping[str, Sequence[Size]]) -> float:
    """Prints by how much launches took longer; returns the first ones', of all, in seconds."""
    print("Launches without CUDA graphs over later ones of their size on their server, ms (how many)\n")
    heads = (
        "first time",
        "a neighbour was met",
        "none was",
        "against its own run",
        "second time",
        "the step, first time",
    )
    print(f"| | {' | '.join(heads)} |\n| --- |{' --: |' * len(heads)}")
    for name, some in {**found, "all": [size for own in found.values() for size in own]}.items():
        first = list(beyond(some, 0))
        columns = (
            [b for _, b in first],
            [b for launch, b in first if launch.beside],
            [b for launch, b in first if not launch.beside],
            [b for _, b in beyond(some, 0, same=True)],
            [b for _, b in beyond(some, 1)],
            [b for _, b in beyond(some, 0, computed_s)],
        )
        print(f"| {name} | {' | '.join(map(told_ms, columns))} |")
    return fmean(b.beyond_s for _, b in first)


class Judged(NamedTuple):
    """First trials of some runs, and what is known of their host."""

    name: str
    first: Sequence[Run]
    traces: Mapping[str, Trace]
    known: str
    profile: Profile
    share: float
    """Of launches of new sizes in these trials, and"""
    later_share: float | None
    """in later ones; ``None`` where there are none."""


def judged() -> Iterator[Judged]:
    parent = load_profile(PROFILE)
    grid = load_runs(DATA / CARDS[0]).runs
    workloads = load_runs(DATA / "workloads").traces
    for name in (*REPEATED, *OWN_GRID):
        folder = load_runs(DATA / name)
        runs = [run for run in plain(folder.runs) if run.configuration.max_num_seqs != 1]
        first, later = ([run for run in runs if (run.trial == 0) is one] for one in (True, False))
        share, later_share = (new_share(name, folder, one) for one in (True, False))
        assert share is not None
        if name in REPEATED:
            known, profile = "its later trials", of_host(parent, grid, later)
        else:
            own = own_profile(runs)
            assert own is not None
            known, profile = "its card's quick grid", own
        traces = workloads if runs[0].trace in workloads else {run.trace: load_of(SEED) for run in runs}
        yield Judged(name, first, traces, known, profile, share, later_share)


def errors(profile: Profile, each: Judged) -> dict[str, list[float]]:
    """Of each first trial, as it was run, by figure."""
    found: dict[str, list[float]] = {name: [] for name in JUDGED}
    with written(profile) as path:
        for run in each.first:
            sim = ran(each.traces[run.trace], in_virtual_time(run.configuration, path))
            for name, value in JUDGED.items():
                told, true = value(sim), value(run)
                assert told is not None and true is not None
                found[name].append(told / true - 1)
    return found


def worth_table(new_s: float) -> None:
    print("\nFirst trials above batch 1: mean error and mean |error| of first tokens, mean |error| of workflow time\n")
    print("| | host as in | cells | new sizes, later | as it is | new sizes on top | launches of these trials |")
    print("| --- | --- | --: | --: | --: | --: | --: |")
    parent, grid = load_profile(PROFILE), load_runs(DATA / CARDS[0]).runs
    every: list[list[dict[str, list[float]]]] = []
    for each in judged():
        timing = each.profile.timing
        slower = replace(timing, host_eager_s=timing.host_eager_s + each.share * new_s)
        tried = (each.profile, replace(each.profile, timing=slower), of_host(parent, grid, each.first))
        found = [errors(profile, each) for profile in tried]
        every.append(found)
        shares = ", ".join(f"{share:.0%}" for share in (each.share, each.later_share) if share is not None)
        cells = f"{each.known} | {len(each.first)} | {shares}"
        print(f"| {each.name} | {cells} | {' | '.join(map(told, found))} |", flush=True)
    columns = zip(*every, strict=True)
    together = [{name: [e for some in column for e in some[name]] for name in JUDGED} for column in columns]
    print(f"| all | | {len(together[0][FIRST])} | | {' | '.join(map(told, together))} |")


def told(found: Mapping[str, Sequence[float]]) -> str:
    first, workflow = found[FIRST], found[WORKFLOW]
    return f"{fmean(first):+.1%}, {fmean(map(abs, first)):.1%}; {fmean(map(abs, workflow)):.1%}"


def main() -> None:
    found = {row: [s for name in names for s in sizes(name, load_runs(DATA / name))] for row, names in FOLDERS.items()}
    worth_table(launch_table(found))


if __name__ == "__main__":
    main()
