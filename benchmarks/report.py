"""How large a page is, and how soon a browser shows it: `python -m benchmarks.report [--calls 100000]`.

Made-up runs of a chain of three nodes at two batch sizes; a headless Chromium loads the page, and draws the timeline of
all calls, which comes last. Times are the browser's own, from navigation.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
from tests.analysis import builders
from tests.analysis.report.browser import FOUND, tab

from rejoule.analysis.report import render
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import CallResult, Run, Step, ToolResult, WorkflowResult
from rejoule.traces.runs import Experiment

NODES = 3
AT_ONCE = 64
READY = """new Promise(done => {
  const began = performance.now();
  const canvas = document.querySelector("canvas.time");
  canvas.scrollIntoView();
  const loaded = performance.timing.loadEventEnd - performance.timing.navigationStart;
  const look = () => canvas.dataset.drawn ? done([loaded, performance.now() - began]) : setTimeout(look, 5);
  look();
})"""


def made(calls: int, batch: int) -> Run:
    """A run of so many calls of 0.9 s each, 64 workflows at a time."""
    flows = max(1, calls // NODES)
    run = builders.run(builders.trace(1), batch)
    results, workflows, tools = [], [], []
    for flow in range(flows):
        name, start = f"w{flow}", 3.0 * (flow // AT_ONCE)
        for i, node in enumerate(builders.CHAIN):
            at = start + i
            results.append(
                CallResult(f"{name}.{i}", name, node, at, at + 0.01, at + 0.9, at + 0.2, 900, 300, 120, exact=True)
            )
        tools.append(ToolResult(f"{name}.t", name, "plan", "search", start + 0.9, start + 1.0))
        workflows.append(WorkflowResult(name, "agentic", start, start + 2.9))
    end = max(w.end_s for w in workflows)
    count = min(20_000, 10 * int(end))
    steps = tuple(Step(i * end / count, (i + 1) * end / count, 1, 30.0 + i % 7, 1800.0, i % 2 == 0,
                       decode=((results[i % len(results)].id, 1),)) for i in range(count))  # fmt: skip
    joules = replace(run.energy, gpu_j=sum(s.energy_j or 0.0 for s in steps), idle_j=0.0)
    done = replace(run, calls=tuple(results), workflows=tuple(workflows), tools=tuple(tools), makespan_s=end)
    return replace(done, steps=steps, energy=joules)


async def measured(page: Path) -> tuple[float, float]:
    """Milliseconds until the page is loaded, its script run, and from there until the timeline is drawn."""
    async with tab() as browser:
        await browser.open(page)
        load, drawn = await browser.value(READY)
        if browser.complaints:
            raise RejouleError(f"the browser complained: {browser.complaints[0]}", "open the page and look")
        return load, drawn


@click.command(help=__doc__)
@click.option("--calls", default=100_000, show_default=True, help="Of each of two runs.")
def main(calls: int) -> None:
    if FOUND is None:
        raise click.ClickException("no Chromium is installed; install it: apt-get install chromium")
    trace = {"agentic": builders.trace(1)}
    for count in dict.fromkeys((30, calls)):
        runs = [made(count, batch) for batch in (8, 64)]
        print(f"{count} calls: rendering", file=sys.stderr)
        began = time.process_time()
        page = render(runs, trace, Experiment({}, (), 1, 0, "0.1.0")).encode()
        spent = time.process_time() - began
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "page.html"
            file.write_bytes(page)
            load, drawn = asyncio.run(measured(file))
        print(
            f"2 runs of {len(runs[0].calls):,} calls: {len(page) / 1e6:.2f} MB, written in {spent:.1f} s of CPU; "
            f"loaded after {load:.0f} ms, timeline drawn {drawn:.0f} ms later"
        )


if __name__ == "__main__":
    main()
