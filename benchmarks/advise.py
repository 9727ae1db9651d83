"""How often ``rejoule advise`` finds what is best from a quarter of the cells: python -m benchmarks.advise [--cases N].

Each case is a random matrix (a kept workload, a simulated GPU, batch sizes, power caps, and an option), simulated as a
whole, and a random objective. ``advise`` sees the configuration with no knob set, runs the cells that it names itself,
two at a time, and stops when it names none or a quarter of the cells were run. The search was tuned on seeds from 1000
on; ``--write`` puts the table of the first hundred, and of a hundred from 2000 on that were used for nothing, into
docs/advice.md.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmarks.client import put
from benchmarks.gpu.sensors import row
from benchmarks.validation import DATA, ran
from rich.console import Console
from rich.progress import track

from rejoule.analysis.advice import Advice, advise, objectives
from rejoule.analysis.summary.cells import gather
from rejoule.analysis.summary.summary import Summary, summarise
from rejoule.analysis.summary.words import metric_named
from rejoule.traces.model import Trace
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import load_runs

PAGE: Final = Path(__file__).parents[1] / "docs" / "advice.md"
PROFILES: Final[Mapping[str, tuple[float, ...]]] = {
    "h200-llama-3.1-8b": (250.0, 350.0, 500.0, 700.0),
    "h100-llama-3.1-8b": (250.0, 350.0, 500.0, 700.0),
    "a100-llama-3.1-8b": (150.0, 200.0, 300.0, 400.0),
    "l40s-qwen3-8b": (150.0, 200.0, 275.0, 350.0),
    "rtx-pro-6000-qwen3-8b": (300.0, 400.0, 500.0, 600.0),
}
"""Simulated GPUs with the caps that they are tried under."""
BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)
OPTIONS: Final[Sequence[tuple[str, tuple[Any, Any]]]] = (
    ("enable_prefix_caching", (True, False)),
    ("max_num_batched_tokens", (None, 1024)),
    ("scheduling_policy", ("fcfs", "priority")),
    ("async_scheduling", (True, False)),
)
FIGURES: Final = ("workflow.p50", "workflow.p99", "ttft.p50", "itl.p50", "power")
SETS: Final = (0, 2000)
"""Seeds of the first cases."""
AT_A_TIME: Final = 2
TIED: Final = 1e-6
"""Relative: equal but for rounding, as where a cap never binds."""
CLOSE: Final = 0.01
"""Relative: as good as the best, for whoever pays."""


@dataclass(frozen=True, slots=True)
class Found:
    """Of one case."""

    cells: int
    run: int
    best: bool
    """The very best configuration was named, or one whose joules are equal."""
    close: bool
    """One that keeps the objective, and takes at most 1 % more."""
    kept: bool
    """What was named keeps the objective."""
    over: float
    """By how much it takes more than the best."""


@cache
def traces() -> dict[str, Trace]:
    return dict(load_runs(DATA / "workloads").traces)


def case(seed: int) -> Found:
    random = Random(seed)
    name, trace = random.choice(sorted(traces().items()))
    trace = replace(trace, workflows=trace.workflows[: random.randint(2, len(trace.workflows))])
    profile = random.choice(sorted(PROFILES))
    batches = sorted(random.sample(BATCHES, random.choice((4, 5))))
    option, values = random.choice(OPTIONS)
    levels = {"max_num_seqs": batches, "power_cap_w": PROFILES[profile], f"options.{option}": values}
    runs = {
        key: the_truth(ran(trace, configuration(profile, key[0], key[1], option, key[2]), name, f"{seed}-{i}"))
        for i, key in enumerate(product(*levels.values()))
    }
    word = random.choice(FIGURES)
    summaries = {key: summarise(run) for key, run in runs.items()}
    figure, joules = (
        {key: value(summary, which) for key, summary in summaries.items()} for which in (word, "joules.workflow")
    )
    ordered = sorted(figure.values())
    bound = ordered[random.randrange(len(ordered) // 5, len(ordered))] * random.uniform(1.0, 1.05)
    fit = {key: joules[key] for key, found in figure.items() if found <= bound}
    best = min(fit, key=lambda key: fit[key])
    answer, asked = searched(runs, levels, objectives([f"{word}={bound:.6g}"]), name, trace)
    if answer is None:
        return Found(len(runs), asked, False, False, False, float("inf"))
    over = joules[answer] / fit[best] - 1.0
    kept = answer in fit
    return Found(len(runs), asked, kept and over <= TIED, kept and over <= CLOSE, kept, over)


def the_truth(run: Run) -> Run:
    """Without the error that its profile states: the simulator is what is searched here, and not a model of it."""
    return replace(run, engine={**run.engine, "expected_error": None})


def configuration(profile: str, batch: int, cap_w: float, option: str, value: Any) -> Configuration:
    options = {} if value is None else {option: value}
    return Configuration(profile=profile, max_num_seqs=batch, power_cap_w=cap_w, arrivals="burst", options=options)


def value(summary: Summary, word: str) -> float:
    found = metric_named(word).value(summary)
    assert found is not None
    return found


def searched(
    runs: Mapping[tuple[Any, ...], Run], levels: Mapping[str, Sequence[Any]], wanted: Any, name: str, trace: Trace
) -> tuple[tuple[Any, ...] | None, int]:
    """What is advised in the end, and how many cells were run for it."""
    chosen = [tuple(values[0] if i == 2 else values[-1] for i, values in enumerate(levels.values()))]
    while True:
        left = len(runs) // 4 - len(chosen)
        (found,) = advise(
            gather([runs[key] for key in chosen], {name: trace}), wanted, levels, confirm=max(0, min(AT_A_TIME, left))
        )
        if not found.confirm:
            answer = found.best or found.only
            return None if answer is None else key_of(found, answer.settings, levels), len(chosen)
        chosen += [key_of(found, one.settings, levels) for one in found.confirm]


def key_of(found: Advice, settings: Mapping[str, Any], levels: Mapping[str, Sequence[Any]]) -> tuple[Any, ...]:
    return tuple(settings[name] for name in levels)


def table(sets: Sequence[Sequence[Found]]) -> Iterable[str]:
    yield row("", *("of 100 cases" if i == 0 else "of 100 others" for i in range(len(sets))))
    yield row("---", *("--:" for _ in sets))
    for words, test in (
        ("the best configuration is advised", lambda f: f.best),
        ("one within 1 % of its joules that keeps the objective is", lambda f: f.close),
        ("what is advised keeps the objective", lambda f: f.kept),
    ):
        yield row(words, *(f"{100 * sum(map(test, found)) / len(found):.0f}" for found in sets))
    shares = (100 * sum(f.run for f in found) / sum(f.cells for f in found) for found in sets)
    yield row("cells run, of those of the matrix", *(f"{share:.0f} %" for share in shares))


def main() -> None:
    parser = ArgumentParser(
        prog="python -m benchmarks.advise", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=100, help="of each set")
    parser.add_argument("--seed", type=int, action="append", help="of a set's first case; repeated")
    parser.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    given = parser.parse_args()
    seeds = [first + i for first in given.seed or SETS for i in range(given.cases)]
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        found = list(track(pool.map(case, seeds), "cases", len(seeds), console=Console(stderr=True)))
    text = "\n".join(table([found[i : i + given.cases] for i in range(0, len(found), given.cases)]))
    print(text)
    for seed, one in zip(seeds, found, strict=True):
        if not one.best:
            print(f"case {seed}: {one}")
    if given.write:
        put(PAGE, "cases", text)


if __name__ == "__main__":
    main()
