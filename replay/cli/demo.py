"""``rejoule demo``: nothing but the commands that a user would type, one after another."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Final

import click

from rejoule.traces import RejouleError

WORKLOADS: Final = {"sequential": 8, "interactive": 8, "agentic": 6, "composite": 4}
"""Workflows of each workload: enough at a time to fill a batch, few enough for a minute of recording."""
CODING: Final = ("agentic", "composite")
"""Those that run code. What runs here the embedded engine made up, so a machine without a jail gets its demo too."""
BATCH_SIZES: Final = "1,4,16,64"
POWER_CAPS: Final = "250,350,500,700"


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    default=Path("demo"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder to write.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.pass_context
def demo(ctx: click.Context, folder: Path, seed: int) -> None:
    """Record all four workloads live on the embedded engine, replay them over batch sizes and power caps, compare.

    Takes about a minute, and needs neither a GPU nor a network.
    """
    began = time.monotonic()
    if (folder / "runs").exists():
        raise RejouleError(f"{folder} holds a demo already", f"remove it (rm -r {folder}), or choose another with -o")
    try:
        (folder / "traces").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RejouleError(f"cannot write {folder}: {error.strerror}", "choose another folder with -o") from error

    def run(*words: object) -> None:
        arguments = [str(word) for word in words]
        click.secho(f"\n$ rejoule {shlex.join(arguments)}", fg="cyan", bold=True)
        group = ctx.find_root().command
        group.main(arguments, prog_name="rejoule", standalone_mode=False, obj=ctx.obj)

    traces = [folder / "traces" / f"{name}.jsonl" for name in WORKLOADS]
    for (name, workflows), trace in zip(WORKLOADS.items(), traces, strict=True):
        code = ("--set", "sandbox=if-possible") if name in CODING else ()
        run("record", name, "-o", trace, "--workflows", workflows, "--seed", seed, "--force", *code)
    runs, report = folder / "runs", folder / "report.html"
    knobs = ("--max-num-seqs", BATCH_SIZES, "--power-cap", POWER_CAPS, "--arrivals", "burst", "--seed", seed)
    run("replay", *traces, "-o", runs, *knobs)
    batch = ("--a", "max_num_seqs=1", "--b", "max_num_seqs=64")
    run("diff", runs, *batch, "--a", "power_cap_w=700", "--b", "power_cap_w=700")
    caps = ("--a", "power_cap_w=700", "--b", "power_cap_w=350")
    run("diff", runs, *caps, "--a", "max_num_seqs=64", "--b", "max_num_seqs=64")
    run("report", runs, "-o", report)
    click.secho(f"\nDone in {time.monotonic() - began:.0f} s. Open {report} in a browser.", bold=True)
    click.echo("The joules of this demo are modelled, not measured: its engine is simulated.")
