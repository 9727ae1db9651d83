"""``rejoule inspect``: what is in a trace; and ``rejoule label``: which of its workflows succeeded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rejoule.traces.terminal import shown
from rejoule.traces.words import counted

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("--salvage", is_flag=True, help="Show what is complete of a cut trace.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(trace: Path, salvage: bool, as_json: bool) -> None:
    """Show what TRACE holds: workflows, nodes, tokens, sharing and critical paths."""
    import orjson

    from rejoule.traces.overview import overview
    from rejoule.traces.store import EDITED, load
    from rejoule.traces.terminal import say
    from rejoule.traces.work import account, sentences

    held = load(trace, salvage=salvage)
    found = overview(held)
    if held.edited:
        say(f"warning: {trace} {EDITED}", err=True)
    if as_json:
        click.echo(orjson.dumps(found).decode())
        return
    _print(trace, found)
    for sentence in sentences(account(held)):
        say(f"warning: {sentence}", err=True)


@click.command()
@click.argument("trace", type=click.Path(path_type=Path))
@click.argument("labels")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The labelled trace.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def label(trace: Path, labels: str, output: Path, force: bool, as_json: bool) -> None:
    """Say of TRACE which workflows reached their goal: LABELS is JSON, or @FILE.

    \b
    rejoule label t.jsonl '{"w0000": true, "w0001": false}' -o labelled.jsonl
    """
    import orjson

    from rejoule.traces import label as labelling
    from rejoule.traces.errors import RejouleError
    from rejoule.traces.overview import successes, words_of
    from rejoule.traces.store import EDITED, RECORD_AGAIN, load, save

    said = labelling.labels(labels)
    if output.exists() and not force:
        raise RejouleError(f"{output} exists", "give another name, or --force to write over it")
    held = load(trace)
    if held.edited:
        # A copy would be whole, and would no longer say so.
        raise RejouleError(f"{trace} {EDITED}", RECORD_AGAIN)
    found = labelling.labelled(held, said)
    save(found, output)
    told = successes(found.workflows)
    click.echo(orjson.dumps({"trace": str(output), "success": told}).decode() if as_json else words_of(told))


def _figures(what: str, rows: list[dict[str, Any]]) -> Table:
    """Names fold where there is little room, so that no two look alike; figures stay whole."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(what, overflow="fold")
    for name in ("calls", "prompt tokens", "cached", "output tokens", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        values = (row[k] for k in ("calls", "prompt_tokens", "cached_tokens", "output_tokens", "failed_calls"))
        table.add_row(Text(shown(row[what])), *("–" if v is None else f"{v:,}" for v in values))
    return table


def _print(trace: Path, found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from rejoule.traces.overview import words_of
    from rejoule.traces.terminal import console

    out = console()
    counts = ", ".join(
        counted(found[key], noun)
        for key, noun in (("workflows", "workflow"), ("calls", "call"), ("tool_calls", "tool call"))
    )
    out.print(Text.assemble((str(trace), "bold"), f": {found['graph']}, {counts}, model {found['model']}"))
    out.print(_figures("node", found["nodes"]))
    if found["agents"]:
        out.print(_figures("agent", [agent | {"agent": agent["agent"] or "no agent"} for agent in found["agents"]]))
    if len(found["models"]) > 1:
        out.print(_figures("model", found["models"]))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("workflow", "calls", "depth", "width", "seconds", "critical path s", "status"):
        table.add_column(name, justify="left" if name in ("workflow", "status") else "right")
    for flow in found["each_workflow"]:
        seconds = (f"{flow[k]:.2f}" for k in ("duration_s", "critical_path_s"))
        ended = flow["status"] + {True: ", succeeded", False: ", no success", None: ""}[flow["success"]]
        table.add_row(flow["id"], str(flow["calls"]), str(flow["depth"]), str(flow["width"]), *seconds, ended)
    out.print(table)
    if found["success"] is not None:
        out.print(words_of(found["success"]))
    shared = found["shared_prompt_fraction"]
    out.print(
        "sharing: "
        + (
            "not known, no call was answered"
            if shared is None
            else f"at most {shared:.0%} of all prompt {found['shared_prompt_unit']} can come from a prefix cache"
        )
    )
