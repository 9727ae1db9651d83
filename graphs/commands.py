"""``rejoule record``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rejoule.traces.errors import RejouleError
from rejoule.traces.terminal import say
from rejoule.traces.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rejoule.graphs.record import Progress, Recorded

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


@click.command()
@click.argument("graph")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Trace file; .zst compresses it.")
@click.option("--engine", default="sim", show_default=True, help="sim, the URL of a server, or vllm: start one.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE",
              help="With --engine vllm: model, and any option of vLLM; may be repeated.")  # fmt: skip
@click.option("--profile", help="Profile of the simulated engine: a name or a file.")
@click.option("--model", help="Model to use where the server does not serve the one a call names.")
@click.option("--workflows", type=click.IntRange(1), help="How many to record: as many as inputs, or 1.")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="Most workflows at once.")
@click.option("--arrivals", default="burst", show_default=True, help="burst, or poisson:RATE in workflows a second.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True,
              help="Of inputs, arrivals and the simulated engine.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A size of a workload; may be repeated.")
@click.option("--documents", type=click.Path(path_type=Path), help="Folder of texts that a workload reads.")
@click.option("--input", "input_text", help="Input of your graph: JSON, @FILE.json, or FILE.jsonl with one a workflow.")
@click.option("--context", "context_text", metavar="JSON|@FILE", help="Run-time context of your graph.")
@click.option("--config", "config_text", metavar="JSON|@FILE", help="RunnableConfig of your graph and its factory.")
@click.option("--configurable", multiple=True, metavar="KEY=VALUE",
              help="A key of the config's configurable part; may be repeated.")  # fmt: skip
@click.option("--resume", multiple=True, help="JSON, or text, that answers an interrupt; may be repeated.")
@click.option("--success", metavar="TEST",
              help="Whether a workflow reached its goal, by its final state: KEY, KEY=VALUE, KEY>=NUMBER, or "
              "FILE.py:FUNCTION.")  # fmt: skip
@click.option("--force", is_flag=True, help="Write over an existing trace.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def record(
    context: click.Context,
    graph: str,
    output: Path,
    engine: str,
    options: tuple[str, ...],
    profile: str | None,
    model: str | None,
    workflows: int | None,
    concurrency: int,
    arrivals: str,
    seed: int,
    settings: tuple[str, ...],
    documents: Path | None,
    input_text: str | None,
    context_text: str | None,
    config_text: str | None,
    configurable: tuple[str, ...],
    resume: tuple[str, ...],
    success: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Run GRAPH live and record it: a workload's name, or FILE.py:GRAPH of your own.

    Workloads are sequential, interactive, agentic and composite. Your own graph may be compiled or a builder, or
    made by a function or context manager, which may take the config; langgraph.json, or its folder, names graphs, too:
    langgraph.json:agent. Any client that is built on OpenAI's SDK or sends to OPENAI_BASE_URL will do. All of it runs
    unchanged.
    """
    import sys
    from contextlib import redirect_stdout

    from rejoule.graphs.main_thread import beside_main
    from rejoule.graphs.record import arrival_times
    from rejoule.graphs.session import record_trace
    from rejoule.graphs.situation import situation
    from rejoule.graphs.source import Request

    keys = {key: _json_or_text(value) for key, value in _pairs(configurable, "--configurable").items()}
    given_with = situation(context_text, config_text, keys)
    request = Request(graph, model, workflows, seed, _pairs(settings, "--set"), documents, input_text, given_with)
    request.check()
    if profile is not None and engine != "sim":
        raise RejouleError(f"--profile is for the embedded engine, not for {engine}", "leave it out, or --engine")
    arrival_times(0, arrivals, seed)
    _check_output(output, force)
    before = request.remarks()
    for remark in before:
        say(f"warning: {remark}", err=True)
    answers = [_json_or_text(text) for text in resume]
    own = {"profile": profile, "model": model, "seed": seed}
    given = own | {k.replace("-", "_"): _json_or_text(v) for k, v in _pairs(options, "--option").items()}

    async def work(base_url: str, on_progress: Callable[[Progress], None]) -> Recorded:
        return await record_trace(
            request,
            base_url,
            output,
            concurrency=concurrency,
            arrivals=arrivals,
            resume=answers,
            success=success,
            on_progress=on_progress,
        )

    with (
        _opened(context, engine, given, output) as base_url,
        # What nodes print must not mix with what this command prints.
        redirect_stdout(sys.stderr),
        _progress(workflows) as on_progress,
    ):
        recorded = beside_main(lambda: work(base_url, on_progress))
    _report(output, request, recorded, engine, before, as_json)


def _opened(
    context: click.Context, engine: str, options: Mapping[str, Any], output: Path
) -> AbstractContextManager[str]:
    """The engine that the command line provides; a URL also without it."""
    open_engine: Any = getattr(context.obj, "open_engine", None)
    if open_engine is not None:
        opened: AbstractContextManager[str] = open_engine(engine, options, output.with_name(f"{output.name}.server"))
        return opened
    if not engine.startswith(("http://", "https://")):
        raise RejouleError(f"no engine {engine!r} can be opened here", "run it as: rejoule record")
    return nullcontext(engine)


def _pairs(words: tuple[str, ...], option: str) -> dict[str, str]:
    found = {}
    for text in words:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise RejouleError(f"{option} {text!r} sets nothing", f"write {option} KEY=VALUE")
        found[key.strip()] = value
    return found


def _json_or_text(text: str) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _check_output(output: Path, force: bool) -> None:
    """Refuses before anything runs, so that no recording is lost for want of a place."""
    import os

    folder = output.parent
    try:
        output.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise RejouleError(f"cannot write {output}: {error.strerror}", "give -o another name") from None
    if output.is_dir():
        raise RejouleError(f"{output} is a folder", "give -o the name of a file, as in trace.jsonl")
    if not folder.is_dir():
        raise RejouleError(f"there is no folder {folder}", f"make it: mkdir -p {folder}")
    if output.exists() and not force:
        raise RejouleError(f"{output} exists", "give another name, or --force to write over it")
    if not os.access(output if output.exists() else folder, os.W_OK):
        raise RejouleError(f"cannot write {output}", "choose a folder that you may write to")


@contextmanager
def _progress(workflows: int | None) -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from rejoule.traces.terminal import console

    out = console(stderr=True)
    calls = TextColumn("workflows, {task.fields[calls]} calls")
    columns = (TextColumn("recording"), BarColumn(), MofNCompleteColumn(), calls, TimeElapsedColumn())
    with Bar(*columns, console=out, transient=True, disable=not out.is_terminal, redirect_stdout=False) as bar:
        task = bar.add_task("", total=workflows, calls=0)
        yield lambda progress: bar.update(task, completed=progress.workflows, calls=progress.calls)


def _report(output: Path, request: Any, recorded: Recorded, engine: str, before: Sequence[str], as_json: bool) -> None:
    from rejoule.graphs.failures import failure, of_answer
    from rejoule.graphs.source import summary

    if recorded.stopped:
        _say_stopped(output, recorded)
        # As a shell expects of a command that ended by Ctrl-C; whoever called this one ends too.
        raise SystemExit(INTERRUPTED)
    kept = recorded.called or len(recorded.failed) < len(recorded.workflows)
    found = {
        "trace": str(output) if kept else None,
        "graph": request.target,
        **summary(recorded),
        "remarks": [*before, *recorded.remarks()],
    }
    if as_json:
        import orjson

        click.echo(orjson.dumps(found).decode())
    elif kept:
        _print(found)
    if len(recorded.failed) == len(recorded.workflows):
        first = recorded.failed[0]
        remedy = f"{output} holds what they did until then"
        if not kept:
            output.unlink(missing_ok=True)
            remedy = "no LLM call was made, and no trace is kept"
        if recorded.hint is not None:
            remedy = f"{recorded.hint}; {remedy}"
        elif recorded.called and engine == "sim" and of_answer(first.error or ""):
            remedy += "; the embedded engine's answers are made up: try --engine URL"
        for sentence in recorded.of_work():
            say(f"warning: {sentence}", err=True)
        raise RejouleError(f"no workflow came to its end; {failure(first)}", remedy)
    for remark in recorded.remarks():
        say(f"warning: {remark}", err=True)


def _say_stopped(output: Path, recorded: Recorded) -> None:
    if not recorded.called:
        output.unlink(missing_ok=True)
        click.echo("interrupted before any LLM call ended; no trace is kept", err=True)
        return
    cut = sum(workflow.status == "interrupted" and workflow.error is not None for workflow in recorded.workflows)
    whole = counted(len(recorded.workflows) - cut, "workflow")
    for sentence in recorded.of_work():
        say(f"warning: {sentence}", err=True)
    say(f"interrupted; {output} holds {whole} that came to an end, and {cut:,} as far as they were", err=True)


def _print(found: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from rejoule.traces.overview import words_of
    from rejoule.traces.terminal import console, shown

    out = console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = {"calls": "calls", "prompt_tokens": "prompt tokens", "cached_tokens": "cached"}
    columns |= {"output_tokens": "output tokens"} | ({"failed_calls": "failed"} if found["failed_calls"] else {})
    # Names fold where there is little room, so that no two look alike; figures stay whole.
    table.add_column("node", overflow="fold")
    for name in columns.values():
        table.add_column(name, justify="right", no_wrap=True)
    for node in found["nodes"]:
        table.add_row(Text(shown(node["node"])), *(_figure(node[key]) for key in columns))
    table.add_section()
    table.add_row("all", *(_figure(found[key]) for key in columns), style="bold")
    what = f"{counted(found['workflows'], 'workflow')} of {found['graph']} in {found['duration_s']:.1f} s"
    out.print(
        Text.assemble((found["trace"], "bold"), f": {what}, {counted(found['tool_calls'], 'tool call')}"),
        soft_wrap=True,
    )
    if found["success"] is not None:
        out.print(Text(words_of(found["success"])))
    out.print(table)


def _figure(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
