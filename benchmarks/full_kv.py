"""Where the KV cache is full: python -m benchmarks.full_kv [--seeds N] [--json | --write].

Replays one load of all four workloads on the simulated engine with fewer and fewer KV blocks: by batch size, with and
without prefix caching; then at lower clocks and under caps, arriving all at once and one after another. Prints what was
preempted and computed again, joules, times, and the causes of what few blocks cost, means over ``--seeds`` loads.
``full_kv_measured.py`` has what an H200 did beside what is simulated of it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Final

import orjson
from benchmarks.client import put
from benchmarks.gpu.policies import BLOCKS as BLOCKS_OPTION
from benchmarks.gpu.sensors import row
from benchmarks.mix import mix
from benchmarks.validation import PROFILE, ran

from rejoule.analysis.attribution import attribute
from rejoule.analysis.causes import causes
from rejoule.analysis.causes.words import said
from rejoule.analysis.pairing import Pair
from rejoule.traces.model import Trace
from rejoule.traces.preempted import preempted
from rejoule.traces.run import Configuration, Run

PAGE: Final = Path(__file__).parents[1] / "docs" / "simulator.md"
COPIES: Final = 2
TIME_SCALE: Final = 0.1
SEEDS: Final = 3
SMALL: Final = 0.001
CROWDED: Final = 256
FEW: Final = 1100
PLENTY: Final = 40000
BLOCKS: Final = (FEW, 2000, PLENTY)
"""Of 16 tokens each."""
BATCHES: Final = (8, 16, 64, CROWDED)
CLOCKS_MHZ: Final = (None, 1200.0, 800.0, 500.0)
CAPS_W: Final = (500.0, 350.0, 250.0)
BURST: Final = "burst"
STREAM: Final = "poisson:2"
"""More workflows in a second than the engine serves at 500 MHz, and fewer than at its full clock."""


@dataclass(frozen=True, slots=True)
class Case:
    """One setting, replayed on a load a seed."""

    blocks: int
    batch: int = CROWDED
    prefix_caching: bool = True
    arrivals: str = BURST
    clock_mhz: float | None = None
    cap_w: float | None = None

    @property
    def held(self) -> str:
        """What holds the clock."""
        if self.clock_mhz is not None:
            return f"{self.clock_mhz:.0f} MHz"
        return "–" if self.cap_w is None else f"{self.cap_w:.0f} W"

    def knobs(self, seed: int) -> Configuration:
        return Configuration(
            profile=PROFILE,
            max_num_seqs=self.batch,
            power_cap_w=self.cap_w,
            sm_clock_mhz=self.clock_mhz,
            arrivals=self.arrivals,
            time_scale=TIME_SCALE,
            options={BLOCKS_OPTION: self.blocks, "enable_prefix_caching": self.prefix_caching},
            seed=seed,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Of a run; means over several."""

    preemptions: float
    preempted_calls: float
    """The share of calls that were preempted at all."""
    again_tokens: float
    again_j: float
    """What they took; part of ``energy_j``."""
    prefill_tokens: float
    cached: float
    """Of prompt tokens, those that the prefix cache had at first."""
    batch: float
    """Calls that decode in a step, mean."""
    energy_j: float
    workflow_s: float
    makespan_s: float


@cache
def load_of(seed: int) -> Trace:
    return mix(COPIES, seed)


def found_in(run: Run) -> Found:
    lost, joules = preempted(run), attribute(run)
    assert lost is not None and joules is not None
    busy = [step for step in run.steps or () if step.decode]
    return Found(
        preemptions=lost.preemptions,
        preempted_calls=lost.calls / lost.of_calls,
        again_tokens=lost.again_tokens or 0.0,
        again_j=joules.by_phase().again_j or 0.0,
        prefill_tokens=lost.prefill_tokens or 0.0,
        cached=sum(c.cached_tokens or 0 for c in run.calls) / sum(c.prompt_tokens or 0 for c in run.calls),
        batch=sum(len(s.decode) * s.steps for s in busy) / sum(s.steps for s in busy),
        energy_j=run.energy.gpu_j or 0.0,
        workflow_s=fmean(w.end_s - w.arrival_s for w in run.workflows),
        makespan_s=run.makespan_s,
    )


def mean_of(found: Iterable[Found]) -> Found:
    rows = [asdict(one) for one in found]
    return Found(**{name: fmean(r[name] for r in rows) for name in rows[0]})


def replayed(case: Case, seeds: int) -> Found:
    return mean_of(found_in(ran(load_of(seed), case.knobs(seed), trial=seed)) for seed in range(1, seeds + 1))


def by_batch() -> Iterator[Case]:
    for prefix_caching in (True, False):
        for blocks in BLOCKS:
            yield from (Case(blocks, batch, prefix_caching) for batch in BATCHES)


def by_clock() -> Iterator[Case]:
    for arrivals in (BURST, STREAM):
        for blocks in (FEW, PLENTY):
            yield from (Case(blocks, arrivals=arrivals, clock_mhz=clock) for clock in CLOCKS_MHZ)
            yield from (Case(blocks, arrivals=arrivals, cap_w=cap) for cap in CAPS_W)


COLUMNS: Final[Sequence[tuple[str, Callable[[Found], str]]]] = (
    ("preemptions", lambda f: f"{f.preemptions:.0f}"),
    ("tokens again", lambda f: f"{f.again_tokens:,.0f} ({f.again_tokens / f.prefill_tokens:.1%})"),
    ("their joules", lambda f: f"{f.again_j / f.energy_j:.1%}"),
    ("cached", lambda f: f"{f.cached:.0%}"),
    ("in a step", lambda f: f"{f.batch:.1f}"),
    ("workflow, s", lambda f: f"{f.workflow_s:.1f}"),
    ("energy, J", lambda f: f"{f.energy_j:,.0f}"),
)


def table(heads: Sequence[str], found: Mapping[Case, Found], words: Callable[[Case], Sequence[str]]) -> Iterator[str]:
    """A row a case; joules beside those with plenty of blocks and all else equal."""
    yield row(*heads, *(name for name, _ in COLUMNS), "against plenty")
    yield row(*["--:"] * (len(heads) + len(COLUMNS) + 1))
    for case, one in found.items():
        plenty = found[replace(case, blocks=PLENTY)]
        yield row(*words(case), *(shown(one) for _, shown in COLUMNS), f"{one.energy_j / plenty.energy_j - 1.0:+.1%}")


EXPLAINED: Final = (
    Case(FEW),
    Case(FEW, prefix_caching=False),
    Case(FEW, arrivals=STREAM, clock_mhz=800.0),
    Case(FEW, arrivals=STREAM, clock_mhz=500.0),
)


def explained(case: Case, seeds: int) -> str:
    """What few blocks cost against plenty, by cause, as shares of the joules with plenty."""
    pairs = [
        Pair(*(ran(load_of(seed), one.knobs(seed), trial=seed) for one in (replace(case, blocks=PLENTY), case)))
        for seed in range(1, seeds + 1)
    ]
    return row(case.arrivals, "with" if case.prefix_caching else "without", case.held, *caused(pairs))


def caused(pairs: Sequence[Pair]) -> tuple[str, str]:
    """How many joules more B takes than A, and the causes of that, as shares of A's."""
    found, base_j = causes(pairs), fmean(pair.a.energy.gpu_j or 0.0 for pair in pairs)
    assert found is not None
    told = [(said(c.names, c.joules), c.joules / base_j) for c in found.causes]
    listed = ", ".join(f"{words} ({share:+.1%})" for words, share in told if abs(share) > SMALL)
    return f"{found.delta_j / base_j:+.1%}", listed


def tables(found: Mapping[Case, Found], seeds: int) -> Iterator[tuple[str, str]]:
    """Each with the name that it has in the page."""
    for prefix_caching, name in ((True, "full-kv"), (False, "full-kv-uncached")):
        mine = {case: found[case] for case in by_batch() if case.prefix_caching == prefix_caching}
        yield name, "\n".join(table(("KV blocks", "batch"), mine, lambda c: (f"{c.blocks:,}", str(c.batch))))
    for arrivals, name in ((BURST, "full-kv-at-once"), (STREAM, "full-kv-arriving")):
        mine = {case: found[case] for case in by_clock() if case.arrivals == arrivals}
        yield name, "\n".join(table(("KV blocks", "held to"), mine, lambda c: (f"{c.blocks:,}", c.held)))
    heads = [row("arrivals", "prefix caching", "held to", "joules", "causes"), row("---", "---", "--:", "--:", "---")]
    yield "full-kv-causes", "\n".join((*heads, *(explained(case, seeds) for case in EXPLAINED)))


def main() -> None:
    given = arguments()
    cases = list(dict.fromkeys((*by_batch(), *by_clock())))
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        found = dict(zip(cases, pool.map(partial(replayed, seeds=given.seeds), cases), strict=True))
    if given.json:
        print(orjson.dumps([asdict(case) | asdict(one) for case, one in found.items()]).decode())
        return
    print(f"Simulated, {PROFILE}, {given.seeds} loads of {len(load_of(1).workflows)} workflows")
    for name, text in tables(found, given.seeds):
        print(f"\n{name}\n\n{text}")
        if given.write:
            put(PAGE, name, text)


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.full_kv", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seeds", type=int, default=SEEDS)
    options.add_argument("--json", action="store_true", help="the simulated figures alone, for machines")
    options.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    return options.parse_args()


if __name__ == "__main__":
    main()
