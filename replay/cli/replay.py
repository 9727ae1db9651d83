"""``rejoule replay`` and ``rejoule run``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from rejoule.replay.cli.options import engine_options, floats, integers, names
from rejoule.replay.cli.sweep import knob_name, sweeps
from rejoule.traces import RejouleError
from rejoule.traces.run import Configuration
from rejoule.traces.terminal import say
from rejoule.traces.words import counted

FIGURES = "Print workflow times, throughput, slowdown, fairness and waiting, too; --json has them always."


@click.command()
@click.argument("traces", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path), help="Run folder to write.")
@click.option("--engine", default="sim", show_default=True, help="sim, the URL of a server, or vllm: start one.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the engine; may be repeated. With --engine vllm, any of vLLM's, and model.",
)
@click.option("--sweep", "swept", multiple=True, metavar="KEY=V1,V2",
              help="Values of any knob, or of any option of the engine; may be repeated.")  # fmt: skip
@click.option("--profile", help="Profile of the simulated engine: a name or a file.")
@click.option("--max-num-seqs", type=integers, help="Batch sizes, as in 1,8,64.")
@click.option("--power-cap", type=floats, help="GPU power caps in watts, as in 300,500,700.")
@click.option("--sm-clock", type=floats, help="SM clock locks in MHz.")
@click.option("--output-scale", type=floats, default="1", show_default=True, help="Factors on output lengths.")
@click.option("--input-scale", type=floats, default="1", show_default=True, help="Factors on prompt lengths.")
@click.option("--edges", type=click.Choice(["barrier", "trigger"]), default="barrier", show_default=True,
              help="Wait as LangGraph did, or only as control flow required.")  # fmt: skip
@click.option("--arrivals", default="recorded", show_default=True,
              help="recorded, burst, poisson:RATE, or users:N[,THINK_S].")  # fmt: skip
@click.option(
    "--concurrency", type=click.IntRange(1), help="Most calls in flight at a time; several by --sweep concurrency=1,8."
)
@click.option("--batching", type=click.Choice(["continuous", "static"]), default="continuous", show_default=True,
              help="static: calls go out in waves of --concurrency, or of the batch size.")  # fmt: skip
@click.option("--policy", "policies", type=names,
              help="Scheduling policies, as in none,fcfs,las: names, or FILE.py:CLASS.")  # fmt: skip
@click.option("--policy-knows", type=names, default="learned", show_default=True,
              help="What policies know of what is to come: learned from other workflows, oracle, or both.")  # fmt: skip
@click.option("--policy-option", "policy_options", multiple=True, metavar="KEY=VALUE",
              help="A parameter of the policies; may be repeated.")  # fmt: skip
@click.option("--time-scale", type=click.FloatRange(0), default=1.0, show_default=True,
              help="Factor on recorded arrivals, thinking and tool times.")  # fmt: skip
@click.option("--loops", type=click.IntRange(1), default=1, show_default=True,
              help="Times to go through the trace within a run, each with a cold cache.")  # fmt: skip
@click.option("--trials", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--salvage", is_flag=True, help="Use what is complete of a cut trace.")
@click.option("--figures", is_flag=True, help=FIGURES)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a run.")
def replay(
    traces: tuple[Path, ...],
    folder: Path,
    engine: str,
    options: tuple[str, ...],
    swept: tuple[str, ...],
    profile: str | None,
    max_num_seqs: list[int | None] | None,
    power_cap: list[float | None] | None,
    sm_clock: list[float | None] | None,
    output_scale: list[float],
    input_scale: list[float],
    edges: str,
    arrivals: str,
    concurrency: int | None,
    batching: str,
    policies: list[str] | None,
    policy_knows: list[str],
    policy_options: tuple[str, ...],
    time_scale: float,
    loops: int,
    trials: int,
    seed: int,
    salvage: bool,
    figures: bool,
    as_json: bool,
) -> None:
    """Replay TRACES under every combination of knobs, into a run folder.

    Repeat the command to take up an experiment that was interrupted.
    """
    from rejoule.replay.plan import Sweep, configurations

    also = sweeps(swept, _given())
    base = Configuration(
        engine=engine,
        profile=profile,
        edge_set=edges,
        arrivals=arrivals,
        concurrency=concurrency,
        batching=batching,
        policy_options=engine_options(policy_options, "--policy-option", "half_life_s=30"),
        time_scale=time_scale,
        loops=loops,
        seed=seed,
        options=engine_options(options),
    )
    sweep: Sweep = {
        "max_num_seqs": max_num_seqs or [None],
        "power_cap_w": power_cap or [None],
        "sm_clock_mhz": sm_clock or [None],
        "input_scale": input_scale,
        "output_scale": output_scale,
        "policy": policies or [None],
        "policy_knows": policy_knows,
        **also,
    }
    _execute(traces, folder, configurations(base, sweep), trials, seed, salvage, figures, as_json)


def _given() -> set[str]:
    """The knobs that the command line gives by options of their own."""
    context = click.get_current_context()
    names = (name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE)
    return {knob_name(name) for name in names}


@click.command()
@click.argument("experiment", type=click.Path(path_type=Path))
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path), help="Run folder to write.")
@click.option("--figures", is_flag=True, help=FIGURES)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a run.")
def run(experiment: Path, folder: Path, figures: bool, as_json: bool) -> None:
    """Replay as EXPERIMENT, a TOML file, says; repeat the command to take it up where it stopped."""
    from rejoule.replay.cli.experiment_file import read

    file = read(experiment)
    _execute(file.traces, folder, file.configurations, file.trials, file.seed, False, figures, as_json)


def _execute(
    paths: Sequence[Path],
    folder: Path,
    configurations: Sequence[Configuration],
    trials: int,
    seed: int,
    salvage: bool,
    figures: bool,
    as_json: bool,
) -> None:
    from rejoule.replay.check import check_configurations
    from rejoule.replay.cli.outlook import outlook
    from rejoule.replay.cli.progress import Progress
    from rejoule.replay.execute import execute, planned
    from rejoule.replay.experiment import load_traces
    from rejoule.replay.remarks import between_runs, remarks
    from rejoule.traces.runs import finished, load_runs
    from rejoule.traces.store import EDITED
    from rejoule.traces.work import account, sentences

    check_configurations(configurations)  # before traces are read, which may take a while
    traces = load_traces(paths, salvage=salvage)
    for name in (name for name, trace in traces.items() if trace.edited):
        say(f"warning: {name} {EDITED}", err=True)
    experiment = planned(traces, configurations, trials=trials, seed=seed)
    for name, trace in traces.items():
        for sentence in sentences(account(trace)):
            say(f"warning: {name}: {sentence}", err=True)
    for line in outlook(configurations, trials, folder):
        say(f"note: {line}", err=True)
    with Progress(experiment, folder, traces, show="json" if as_json else "bars") as progress:
        execute(experiment, traces, folder, progress)
    if progress.refused and not finished(folder):
        raise progress.refused[0]
    for run in progress.runs:
        for remark in remarks(run):
            say(f"{remark.level}: {remark.text}", err=True)
    runs = load_runs(folder).runs
    for note in between_runs(runs):
        say(f"note: {note}", err=True)
    if not as_json:
        from rejoule.replay.cli.tables import print_runs

        print_runs(runs)
        if figures:
            from rejoule.replay.cli.figures import print_figures

            print_figures(runs)
        say(f"\n{folder} holds {counted(len(runs), 'run')}. Which node spent the energy:")
        typed = shlex.quote(str(folder))
        say(f"  rejoule energy {typed}\n  rejoule report {typed} -o report.html")
    failed = [run for run in progress.runs if run.failed_calls]
    if failed:
        first, count = failed[0].failed_calls[0], sum(len(run.failed_calls) for run in failed)
        raise RejouleError(
            f"{counted(count, 'call')} failed in {counted(len(failed), 'run')}, first {first.id}: {first.error}",
            "the runs are kept and marked; the server's log may say why",
        )
    if progress.refused:
        count, reasons = len(progress.refused), dict.fromkeys(map(str, progress.refused))
        raise RejouleError(
            f"{count} of {counted(len(experiment.runs), 'run')} left out: {' | '.join(reasons)}",
            "repeat the command to try them again",
        )
