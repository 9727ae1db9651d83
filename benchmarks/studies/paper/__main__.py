"""The paper's set-up, replayed on the simulated engine, and its page: python -m benchmarks.studies.paper [OUT].

Runs land in OUT (studies-paper), which is taken up where it stopped; the same command gives the same numbers. Takes
minutes on two cores; ``--no-report`` leaves out report.html, and ``--page`` makes no runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.mix import DATA
from benchmarks.studies.paper.groups import GROUPS, PROFILE, USERS, Group
from benchmarks.studies.paper.loads import traces
from benchmarks.studies.paper.page import write_page

import rejoule
from rejoule.traces.runs import RunFolder, load_runs

SEED: Final = 1
REPORTED: Final = "batch-and-cap"


def run_group(group: Group, out: Path) -> tuple[str, int, float]:
    """Makes the runs of a group that are not there yet; its name, how many it has, and the CPU's seconds."""
    began = time.process_time()
    loads = traces() if group.loads else load_runs(DATA).traces
    chosen = {name: loads[name] for name in group.loads or loads}
    knobs = {"profile": PROFILE, "arrivals": f"users:{USERS}", "seed": SEED, **group.knobs}
    knobs = {name: value for name, value in knobs.items() if name not in group.sweep}
    found = rejoule.replay_traces(chosen, out / group.name, knobs, sweep=group.sweep, progress=False)
    return group.name, len(found.runs), time.process_time() - began


def make(out: Path, groups: Sequence[Group] = GROUPS) -> list[RunFolder]:
    """All groups, two at a time, the largest first."""
    began = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        waiting = [pool.submit(run_group, group, out) for group in groups]
        for number, future in enumerate(waiting, start=1):
            name, runs, cpu_s = future.result()
            taken_s = time.monotonic() - began
            print(
                f"[{number}/{len(groups)}] {name}: {runs} runs, {cpu_s:.0f} s CPU, {taken_s:.0f} s so far",
                file=sys.stderr,
            )
    return [load_runs(out / group.name) for group in groups]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", nargs="?", type=Path, default=Path("studies-paper"))
    parser.add_argument("--no-report", action="store_true")
    parser.add_argument("--page", action="store_true", help="write the page from the runs that are there")
    given = parser.parse_args()
    folders = [load_runs(given.out / group.name) for group in GROUPS] if given.page else make(given.out)
    print("asking the findings", file=sys.stderr)
    print(write_page(folders))
    if not given.no_report:
        page = rejoule.report(given.out / REPORTED, given.out / "report.html", title="The paper's set-up", force=True)
        print(page)


if __name__ == "__main__":
    main()
