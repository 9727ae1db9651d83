"""``rejoule calibrate``."""

from __future__ import annotations

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rejoule.replay.cli.options import FiniteRange, floats
from rejoule.traces import RejouleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rejoule.replay.calibration.calibrate import Calibration
    from rejoule.replay.calibration.child import QuickCalibration
    from rejoule.replay.calibration.sizes import GpuCalibration
    from rejoule.replay.sim.profile import Profile

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("runs", nargs=-1, type=PATH)
@click.option("-o", "--output", required=True, type=PATH, help="Profile to write, or with --grid-only the trace.")
@click.option("--base", "bases", multiple=True, metavar="PROFILE",
              help="Profile to begin from: its model, GPU and limits stay. Once for each of RUNS, in their order: "
              "models whose constants are fitted together, into a GPU's file.")  # fmt: skip
@click.option("--grid-only", is_flag=True, help="Write the trace to measure with, and stop.")
@click.option("--quick", is_flag=True,
              help="Fit only what cards and hosts of one kind differ in, by 80 s of the grid; with caps or locks the "
              "clock curve, too.")  # fmt: skip
@click.option("--max-num-seqs", type=click.IntRange(1), help="Of the grid's server. "
              "[default: what it says, at most 256]")  # fmt: skip
@click.option("--max-model-len", type=click.IntRange(512), help="The same. [default: what it says, at most 16384]")
@click.option("--kv-tokens", type=click.IntRange(4096), help="Tokens that its KV cache holds: num_gpu_blocks times the "
              "block size. [default: what it says, at most 640000]")  # fmt: skip
@click.option("--max-num-batched-tokens", type=click.IntRange(16), help="Tokens that it takes a step. "
              "[default: what it says, or 8192]")  # fmt: skip
@click.option("--cell-s", type=FiniteRange(0.01), default=1.2, show_default=True, help="How long a cell lasts.")
@click.option("--holdout", multiple=True, type=PATH, help="Runs to tell the errors on, not to fit; may be repeated.")
@click.option("--timing-only", is_flag=True, help="Keep the base's power: the runs hold no power readings.")
@click.option("--engine", help="vllm: measure the grid first, on a server started with the options given; with --quick "
              "also the URL of a server on this machine.")  # fmt: skip
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of that engine.")
@click.option("--power-cap", type=floats, help="Caps in watts under which it is measured, as in 300,500,700.")
@click.option("--sm-clock", type=floats, help="SM clock locks in MHz, the same.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print constants and errors as one JSON object.")
def calibrate(
    runs: tuple[Path, ...],
    output: Path,
    bases: tuple[str, ...],
    grid_only: bool,
    quick: bool,
    max_num_seqs: int | None,
    max_model_len: int | None,
    kv_tokens: int | None,
    max_num_batched_tokens: int | None,
    cell_s: float,
    holdout: tuple[Path, ...],
    timing_only: bool,
    engine: str | None,
    options: tuple[str, ...],
    power_cap: list[float | None] | None,
    sm_clock: list[float | None] | None,
    seed: int,
    as_json: bool,
) -> None:
    """Fit a profile to what was measured in RUNS.

    On an H200 a quick one takes about five minutes with the server's start, and a full one three. Each cap adds two
    minutes to a quick one and three to six to a full one: so the simulator says, no caps were set on an H200.

    \b
    rejoule calibrate --quick -o mine.json --engine vllm --option model=…
    rejoule calibrate --quick -o mine.json --engine http://localhost:8000 --power-cap none,450,250
    rejoule calibrate --grid-only -o grid.jsonl.zst
    rejoule replay grid.jsonl.zst -o RUNS --engine vllm --option model=… --max-num-seqs 256 --power-cap 300,500,700
    rejoule calibrate RUNS -o PROFILE.json
    rejoule calibrate GRID_8B GRID_32B -o GPU.json --base h200-llama-3.1-8b --base h200-qwen3-32b
    """
    from rejoule.replay.calibration.calibrate import calibrate as fitted
    from rejoule.replay.calibration.calibrate import write_profile
    from rejoule.replay.calibration.grid import FULL, QUICK, grid
    from rejoule.replay.calibration.served import assumed, limits_for
    from rejoule.replay.engines.sim import DEFAULT_PROFILE
    from rejoule.replay.sim.shipped import load_profile
    from rejoule.traces.runs import finished, load_runs
    from rejoule.traces.store import save
    from rejoule.traces.words import counted

    if len(bases) > 1:
        if grid_only or quick or holdout or engine is not None:
            raise RejouleError(
                "several --base fit RUNS that are there",
                "leave out --grid-only, --quick, --holdout and --engine; measure each model's grid by itself",
            )
        _several(bases, runs, output, timing_only, as_json)
        return
    profile = load_profile(bases[0] if bases else DEFAULT_PROFILE)
    kinds = QUICK if quick else FULL
    given = {"max_num_seqs": max_num_seqs, "max_model_len": max_model_len, "kv_tokens": kv_tokens}
    given |= {"max_num_batched_tokens": max_num_batched_tokens}
    if output.suffix != ".json" and not grid_only:
        raise RejouleError(f"{output} is not the name of a profile", "give one that ends in .json")
    if quick and holdout:
        raise RejouleError("--quick judges no held-out runs", "leave out --holdout, and use rejoule validate")
    # The simulated engine has no power to measure; its time alone can be fitted, which proves the fit.
    if engine not in (None, "vllm") and not (timing_only if engine == "sim" else quick):
        if engine == "sim":
            raise RejouleError("the simulated engine has no watts to measure", "add --timing-only")
        raise RejouleError(
            f"a server that runs already, {engine}, does not show its steps",
            "add --quick, which needs none; or let ReJoule start one with --engine vllm",
        )
    known: dict[str, int] = {}
    if engine is not None:
        profile, known = _known(profile, engine, options, timing_only or grid_only)
    limits = limits_for(given, known, cell_s, profile.model.max_model_len)
    told = []
    if engine not in (None, "vllm", "sim") and (guess := assumed(given, known, limits)) is not None:
        told.append(guess)
    if limits.max_model_len > profile.model.max_model_len:
        told.append(
            f"contexts of {limits.max_model_len:,} tokens are longer than the model of {profile.name} takes "
            f"({profile.model.max_model_len:,}): the server has to be told to take them"
        )
    if grid_only:
        if runs:
            raise RejouleError("--grid-only reads no runs", "leave them out, or leave out --grid-only")
        _say(told)
        save(grid(profile, limits, seed, kinds), output)
        then = f"rejoule calibrate {'--quick ' if quick else ''}RUNS -o PROFILE.json"
        click.echo(f"{output} is written; replay it on a server, then: {then}", err=True)
        return
    folders = list(runs)
    if engine is not None:
        measured = output.with_suffix("")
        measured.mkdir(parents=True, exist_ok=True)
        trace = measured / "grid.jsonl.zst"
        save(grid(profile, limits, seed, kinds), trace)
        if (done := len(finished(measured / "runs"))) > 0:
            kept = f"{counted(done, 'run')} of an earlier time kept in {measured / 'runs'}"
            told.append(f"{kept}, not measured again; to measure anew, remove the folder or give another -o")
        _say(told)
        if quick:
            # A warm-up would replay the whole grid; its first cell is one.
            options = ("warm_up=false", *options)
        if engine == "vllm":
            asked = {"max_model_len": limits.max_model_len, "max_num_batched_tokens": max_num_batched_tokens}
            options = (*(f"{name}={n}" for name, n in asked.items() if n and name not in known), *options)
        seats = limits.max_num_seqs if engine in ("vllm", "sim") else None
        _replay(trace, measured / "runs", engine, options, seats, power_cap, sm_clock, as_json)
        folders.append(measured / "runs")
    if not folders:
        raise RejouleError("no RUNS to fit", "give the folder of measured runs, or measure now: --engine vllm")
    if quick:
        _quick(profile, folders, output, timing_only, told if as_json else None)
        return
    found = fitted(
        profile,
        output.stem,
        [run for folder in folders for run in load_runs(folder).runs],
        [run for folder in holdout for run in load_runs(folder).runs],
        timing_only=timing_only,
    )
    write_profile(found.profile, output)
    if as_json:
        _dump(found, told)
    else:
        _print(found, output)


def _say(notes: Iterable[str]) -> None:
    from rejoule.traces.terminal import say

    for note in notes:
        say(f"note: {note}", err=True)


def _dump(found: Calibration | QuickCalibration | GpuCalibration, told: Sequence[str] = ()) -> None:
    """With what was ``told`` before it was measured among its notes."""
    import orjson

    body = found.as_json()
    click.echo(orjson.dumps(body | {"notes": [*told, *body["notes"]]}).decode())


def _known(base: Profile, engine: str, words: tuple[str, ...], times_alone: bool) -> tuple[Profile, dict[str, int]]:
    """``base`` on as many GPUs as a server, and the server's limits, as far as they are known before it is measured.

    Raises RejouleError for one of which no profile like ``base`` can be made.
    """
    from rejoule.replay.calibration.origin import check_served
    from rejoule.replay.calibration.served import local, told_by
    from rejoule.replay.cli.options import engine_options
    from rejoule.replay.energy.nvml import open_nvml
    from rejoule.replay.sim.tensor_parallel import on_gpus

    options = engine_options(words)
    known = told_by(engine, options)
    gpus = known.get("tensor_parallel_size", 1 if engine == "vllm" else None)
    if gpus is not None and base.tensor_parallel == 1:
        base = on_gpus(base, gpus)
    check_served(base, options, gpus, f"--engine {engine}")
    if engine == "sim" or times_alone:
        return base, known
    remedy = "calibrate on the GPU's machine, where rejoule doctor finds NVML; or fit --timing-only"
    if not local(engine):
        raise RejouleError(f"{engine} is not on this machine: the watts of its GPU cannot be read here", remedy)
    if (nvml := open_nvml()) is None:
        raise RejouleError("no GPU answers on this machine: watts cannot be measured", remedy)
    nvml.close()
    return base, known


def _quick(
    parent: Profile, folders: Iterable[Path], output: Path, timing_only: bool, told: Sequence[str] | None
) -> None:
    """``told`` is what was said before it was measured, where JSON is asked for."""
    from rejoule.replay.calibration.calibrate import write_profile
    from rejoule.replay.calibration.child import quick_calibrate
    from rejoule.replay.calibration.quick import grid_run
    from rejoule.replay.cli.child import print_child
    from rejoule.traces.runs import load_runs
    from rejoule.traces.terminal import console

    read = [load_runs(folder) for folder in folders]
    measured = [grid_run(run, each.traces.get(run.trace)) for each in read for run in each.runs]
    with console(stderr=True).status("fitting") as status:
        found = quick_calibrate(
            parent,
            output.stem,
            measured,
            timing_only=timing_only,
            on_replay=lambda times: status.update(f"fitting: the grid simulated {times} times, of about 80"),
        )
    write_profile(found.profile, output)
    if told is not None:
        _dump(found, told)
    else:
        print_child(found, output)


def _several(bases: Sequence[str], folders: Sequence[Path], output: Path, timing_only: bool, as_json: bool) -> None:
    from rejoule.replay.calibration.sizes import Size, calibrate_gpu
    from rejoule.replay.cli.gpu_file import print_gpu, write_gpu
    from rejoule.replay.sim.shipped import load_profile
    from rejoule.traces.runs import load_runs

    if len(folders) != len(bases):
        raise RejouleError(
            f"{len(folders)} RUNS and {len(bases)} --base", "give as many of one as of the other, in the same order"
        )
    if output.suffix != ".json":
        raise RejouleError(f"{output} is not the name of a GPU's file", "give one that ends in .json")
    sizes = [Size(load_profile(base), load_runs(folder).runs) for base, folder in zip(bases, folders, strict=True)]
    found = calibrate_gpu(output.stem, sizes, timing_only=timing_only)
    write_gpu(found.file, output)
    if as_json:
        _dump(found)
    else:
        print_gpu(found, output)


def _replay(
    trace: Path,
    folder: Path,
    engine: str,
    options: tuple[str, ...],
    max_num_seqs: int | None,
    power_cap: list[float | None] | None,
    sm_clock: list[float | None] | None,
    quiet: bool,
) -> None:
    from rejoule.replay.cli.replay import replay

    words = [str(trace), "-o", str(folder), "--engine", engine]
    words += [] if max_num_seqs is None else ["--max-num-seqs", str(max_num_seqs)]
    words += [word for option in options for word in ("--option", option)]
    for name, values in (("--power-cap", power_cap), ("--sm-clock", sm_clock)):
        if values:
            words += [name, ",".join("none" if value is None else f"{value:g}" for value in values)]
    if quiet:
        with redirect_stdout(sys.stderr):
            replay.main(words, prog_name="rejoule replay", standalone_mode=False)
    else:
        replay.main(words, prog_name="rejoule replay", standalone_mode=False)


def _print(found: Calibration, output: Path) -> None:
    from rich.table import Table

    from rejoule.replay.calibration.fit import ALIKE, FEW
    from rejoule.replay.cli.child import constants
    from rejoule.traces.terminal import console

    out = console()
    out.print(constants(found))
    errors = Table("error", "count", "MAPE", "of the sum", "R²", box=None, header_style="bold", pad_edge=False)
    for column in errors.columns[1:]:
        column.justify = "right"
    rows = {f"step time, {kind}": error for kind, error in found.timing.items()}
    if found.power is not None:
        rows["power"] = found.power
    rows |= {f"held out: {what}": error for what, error in found.held_out.items()}
    for name, row in rows.items():
        r2 = "–" if row.r2 is None else f"{row.r2:.3f}"
        errors.add_row(name, str(row.count), f"{100 * row.mape:.1f} %", f"{100 * row.total:+.1f} %", r2)
    out.print()
    out.print(errors)
    if any(row.r2 is None for row in rows.values()):
        few = f"fewer than {FEW} values, or they vary by less than {100 * ALIKE:.0f} % or less than the errors do"
        why = f"R² –: it would mean nothing ({few})"
        out.print(why, style="dim")
    for note in found.notes:
        out.print(f"note: {note}", style="yellow")
    typed = shlex.quote(str(output))
    click.echo(f"\n{output} is written; use it with: rejoule replay TRACE -o RUNS --profile {typed}")
