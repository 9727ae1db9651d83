"""Scheduling policies under power caps, on the simulated engine: python -m benchmarks.policies [--seed N] [--write].

Replays one load of all four workloads with every policy, ``learned`` and ``oracle`` where a policy looks ahead at all,
and prints joules, times, fairness, and what explains them. ``--seed`` draws other tool times, arrivals and orders;
``--write`` puts the main tables into docs/policies.md. Takes some minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Final

from benchmarks.client import put
from benchmarks.mix import mix
from benchmarks.validation import PROFILE, ran

from rejoule.replay.policy.registry import OWN
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.chosen import BLIND
from rejoule.traces.figures import figures, jain
from rejoule.traces.model import Trace
from rejoule.traces.run import LEARNED, ORACLE, Configuration, Run

PAGE: Final = Path(__file__).parents[1] / "docs" / "policies.md"
CAPS_W: Final = (250.0, 350.0, 500.0, 700.0)
SEATS: Final = 16
BASE: Final = "fcfs"


@dataclass(frozen=True, slots=True)
class Load:
    """Copies of the kept workflows, how they arrive, and the engine's KV cache."""

    copies: int
    arrivals: str
    blocks: int
    seed: int = 1


LOADED: Final = Load(8, "poisson:20", 3000)
ROOMY: Final = replace(LOADED, blocks=40000)
LIGHT: Final = Load(2, "poisson:0.2", 40000)


@dataclass(frozen=True, slots=True)
class Case:
    """One replay."""

    load: Load
    cap_w: float
    policy: str
    knows: str = LEARNED
    options: tuple[tuple[str, float], ...] = ()

    @property
    def name(self) -> str:
        told = "".join(f" {key}={value:g}" for key, value in self.options)
        return self.policy + told + ("" if self.policy in BLIND else f" ({self.knows})")


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a case."""

    workflow_j: float
    idle_j: float
    """Of a workflow's share, while the engine had nothing to do."""
    makespan_s: float
    p50_s: float
    p99_s: float
    slowdown: float
    """Mean of a workflow's time by its time alone under the same cap."""
    jain: float
    """Of 1/slowdown: 1 where all are slowed alike."""
    held_s: float
    """By the client, mean of calls."""
    cached: float
    """Of prompt tokens, those that the prefix cache had."""
    batch: float
    """Decodes in a step that has any, mean."""
    waiting: float
    """The part of the time in which more calls are due than there are seats."""


def knobs(case: Case) -> Configuration:
    return Configuration(
        profile=PROFILE,
        power_cap_w=case.cap_w,
        max_num_seqs=SEATS,
        arrivals=case.load.arrivals,
        policy=case.policy,
        policy_knows=case.knows,
        policy_options=dict(case.options),
        options={"num_gpu_blocks": case.load.blocks},
        seed=case.load.seed,
    )


@cache
def trace_of(copies: int, seed: int) -> Trace:
    return mix(copies, seed)


@cache
def alone_s(load: Load, cap_w: float) -> dict[str, float]:
    """How long each workflow takes with the engine to itself."""
    configuration = replace(knobs(Case(load, cap_w, BASE)), policy=None, arrivals="burst")
    trace = trace_of(load.copies, load.seed)
    return {w.id: ran(replace(trace, workflows=(w,)), configuration).makespan_s for w in trace.workflows}


def measured(case: Case) -> Row:
    run = ran(trace_of(case.load.copies, case.load.seed), knobs(case))
    found, alone = figures(run), alone_s(case.load, case.cap_w)
    assert found.workflows == len(run.workflows) and run.steps
    shares = [alone[w.id] / (w.end_s - w.arrival_s) for w in run.workflows]
    decoding = [(len(step.decode) * step.steps, step.steps) for step in run.steps if step.decode]
    return Row(
        workflow_j=found.workflow_j or nan,
        idle_j=(run.energy.idle_j or 0.0) / found.workflows,
        makespan_s=run.makespan_s,
        p50_s=found.workflow_p50_s or nan,
        p99_s=found.workflow_p99_s or nan,
        slowdown=fmean(1 / share for share in shares),
        jain=jain(shares) or nan,
        held_s=fmean(call.sent_s - call.due_s for call in run.calls),
        cached=found.cached_share or 0.0,
        batch=sum(decodes for decodes, _ in decoding) / sum(steps for _, steps in decoding),
        waiting=crowded_s(run) / run.makespan_s,
    )


def crowded_s(run: Run) -> float:
    """For how long more calls were due than there are seats."""
    changes = sorted([(c.due_s, 1) for c in run.calls] + [(c.end_s, -1) for c in run.calls])
    there, before_s, found_s = 0, 0.0, 0.0
    for at_s, change in changes:
        found_s += (at_s - before_s) if there > SEATS else 0.0
        there, before_s = there + change, at_s
    return found_s


def policies(load: Load, cap_w: float) -> Iterator[Case]:
    """Every policy of ReJoule's own, with each knowledge that makes a difference; Parrot without its bound, too."""
    unbound = (("latency_calls", SEATS),)
    for policy, options in [*((name, ()) for name in OWN), ("parrot", unbound)]:
        for knows in [LEARNED] if policy in BLIND else [LEARNED, ORACLE]:
            yield Case(load, cap_w, policy, knows, options)


def few_calls(load: Load, cap_w: float) -> Iterator[Case]:
    """What slack is worth where calls are few."""
    yield Case(load, cap_w, BASE)
    for options in ((), (("deadline_factor", 2.0),), (("deadline_factor", 4.0),)):
        yield from (Case(load, cap_w, "slack", knows, options) for knows in (LEARNED, ORACLE))


COLUMNS: Final[Sequence[tuple[str, Callable[[Row], float], str, str | None]]] = (
    ("J a workflow", lambda r: r.workflow_j, ".0f", "GPU energy"),
    ("idle J", lambda r: r.idle_j, ".0f", None),
    ("makespan, s", lambda r: r.makespan_s, ".0f", "makespan"),
    ("p50, s", lambda r: r.p50_s, ".1f", "workflow latency p50"),
    ("p99, s", lambda r: r.p99_s, ".1f", "workflow latency p99"),
    ("slowdown", lambda r: r.slowdown, ".1f", None),
    ("Jain", lambda r: r.jain, ".2f", None),
    ("held, s", lambda r: r.held_s, ".2f", None),
    ("cached", lambda r: r.cached, ".0%", None),
    ("batch", lambda r: r.batch, ".1f", None),
)
"""Name, value, format, and the figure whose known error on differences holds for it."""


@cache
def allowed(figure: str) -> float:
    """What 19 of 20 differences of a figure were off by at most."""
    errors = load_profile(PROFILE).expected_error
    assert errors is not None
    return errors.metrics[figure].p95


def told(row: Row, base: Row, column: int) -> str:
    """A figure, with its change against first come, first served where that is more than the model's error."""
    _, value, form, figure = COLUMNS[column]
    text = format(value(row), form)
    if figure is None or row is base:
        return text
    change = value(row) / value(base) - 1
    return f"{text} ({change:+.0%})" if abs(change) > allowed(figure) else f"{text} (≈)"


def table(rows: Mapping[Case, Row]) -> str:
    """All figures of one load under one cap."""
    base = next(row for case, row in rows.items() if case.policy == BASE)
    lines = [f"| policy | {' | '.join(name for name, *_ in COLUMNS)} |", f"| --- |{' --: |' * len(COLUMNS)}"]
    for case, row in rows.items():
        lines.append(f"| {case.name} | {' | '.join(told(row, base, i) for i in range(len(COLUMNS)))} |")
    return "\n".join(lines)


def by_cap(found: Mapping[Case, Row], column: int) -> str:
    """One figure of all policies under all caps."""
    rows = {(case.name, case.cap_w): row for case, row in found.items()}
    lines = [f"| {COLUMNS[column][0]} | {' | '.join(f'{w:g} W' for w in CAPS_W)} |", f"| --- |{' --: |' * len(CAPS_W)}"]
    for name in dict.fromkeys(name for name, _ in rows):
        cells = [told(rows[name, cap_w], rows[BASE, cap_w], column) for cap_w in CAPS_W]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    given = arguments()
    full, roomy, light = (replace(load, seed=given.seed) for load in (LOADED, ROOMY, LIGHT))
    ends_w = (CAPS_W[0], CAPS_W[-1])
    cases = [case for cap_w in CAPS_W for case in policies(full, cap_w)]
    cases += [case for cap_w in ends_w for case in (*policies(roomy, cap_w), *few_calls(light, cap_w))]
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        found = dict(zip(cases, pool.map(measured, cases), strict=True))

    def part(load: Load, *caps_w: float) -> dict[Case, Row]:
        return {case: row for case, row in found.items() if case.load == load and case.cap_w in caps_w}

    pages = {"loaded": "\n\n".join(by_cap(part(full, *CAPS_W), column) for column in range(5) if column != 1)}
    pages |= {"why": table(part(full, CAPS_W[0])), "roomy": table(part(roomy, CAPS_W[0]))}
    pages |= {"light": table(part(light, CAPS_W[0]))}
    for name, text in pages.items():
        print(f"{name}\n\n{text}\n")
        if given.write:
            put(PAGE, name, text)
    for load in (full, roomy, light):
        for cap_w in ends_w if load != full else CAPS_W:
            rows = part(load, cap_w)
            waiting = next(row.waiting for case, row in rows.items() if case.policy == BASE)
            print(f"{load}, {cap_w:g} W: {waiting:.0%} of the time more calls are due than seats, by {BASE}")
            if cap_w != CAPS_W[0]:
                print(f"\n{table(rows)}\n")


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.policies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    return options.parse_args()


if __name__ == "__main__":
    main()
