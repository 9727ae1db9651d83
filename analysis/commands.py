"""``rejoule diff`` and ``rejoule report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from rejoule.analysis.diff import Diff, Row, Scope

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("runs_a", type=FOLDER)
@click.argument("runs_b", type=FOLDER, required=False)
@click.option("--a", "only_a", multiple=True, metavar="KNOB=VALUE", help="Keep these runs of side A; may be repeated.")
@click.option("--b", "only_b", multiple=True, metavar="KNOB=VALUE", help="Keep these runs of side B; may be repeated.")
@click.option(
    "--by",
    type=click.Choice(["workload", "node", "phase"]),
    default="node",
    show_default=True,
    help="What the table of joules is split by.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--allow-different-work", is_flag=True, help="Compare runs whose certificates disagree.")
@click.option("--allow-modelled", is_flag=True, help="Compare modelled joules with measured ones.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every row.")
def diff(
    runs_a: Path,
    runs_b: Path | None,
    only_a: tuple[str, ...],
    only_b: tuple[str, ...],
    by: Scope,
    seed: int,
    allow_different_work: bool,
    allow_modelled: bool,
    as_json: bool,
) -> None:
    """Say what changed between two folders of runs, or two configurations of one, and how sure that is.

    \b
    rejoule diff RUNS --a max_num_seqs=1 --b max_num_seqs=64
    rejoule diff BEFORE AFTER --a power_cap_w=300 --b power_cap_w=300
    """
    from rejoule.analysis.diff import compare
    from rejoule.analysis.pairing import pair, parse_filters, select
    from rejoule.traces.errors import RejouleError
    from rejoule.traces.runs import load_runs

    if runs_b is None and not (only_a and only_b):
        raise RejouleError("one folder needs two configurations", "choose them with --a KNOB=VALUE and --b KNOB=VALUE")
    filters_a, filters_b = parse_filters(only_a), parse_filters(only_b)
    folder_a = load_runs(runs_a)
    folder_b = folder_a if runs_b is None else load_runs(runs_b)
    pairs = pair(
        select(folder_a.runs, filters_a),
        select(folder_b.runs, filters_b),
        allow_different_work=allow_different_work,
        allow_modelled=allow_modelled,
    )
    found = compare(pairs, seed)
    if as_json:
        _print_json(_diff_json(found))
    else:
        _print_diff(found, by)


@click.command()
@click.argument("runs", type=FOLDER)
@click.option("-o", "--output", type=FOLDER, default=Path("report.html"), show_default=True)
@click.option("--title", help="Heading of the page.")
@click.option("--json", "as_json", is_flag=True, help="Print path and size as one JSON object.")
def report(runs: Path, output: Path, title: str | None, as_json: bool) -> None:
    """Write RUNS as one self-contained page of interactive pictures."""
    from rejoule.analysis.report import render
    from rejoule.traces.errors import RejouleError
    from rejoule.traces.runs import load_runs

    folder = load_runs(runs)
    page = render(folder.runs, folder.traces, folder.experiment, title).encode()
    try:
        output.write_bytes(page)
    except OSError as error:
        raise RejouleError(f"cannot write {output}: {error.strerror}", "choose another path with -o") from error
    if as_json:
        _print_json({"path": str(output), "bytes": len(page)})
    else:
        click.echo(f"{output}  {len(page) / 1e6:.1f} MB")


def _print_json(body: Any) -> None:
    import orjson

    click.echo(orjson.dumps(body).decode())


def _diff_json(found: Diff) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found) | {"rows": [asdict(row) | {"delta": row.delta} for row in found.rows]}


def _print_diff(found: Diff, by: Scope) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for headline in found.headlines:
        console.print(Text(headline, style="bold"))
    for note in found.notes:
        console.print(Text(f"note: {note}", style="yellow"))
    if (found.a, found.b) != ("A", "B"):
        console.print(Text(f"A is {found.a}, B is {found.b}", style="dim"))
    for trace in dict.fromkeys(row.trace for row in found.rows):
        for scope in dict.fromkeys(("workload", by)):
            rows = [row for row in found.of(scope) if row.trace == trace]
            if rows:
                heading = "whole run" if scope == "workload" else f"joules by {scope}"
                console.print()
                console.print(_table(f"{trace}: {heading}, energy {found.source}", rows))


def _table(title: str, rows: Sequence[Row]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from rejoule.analysis.units import amount, change, signed

    paired = any(row.interval is not None for row in rows)
    table = Table(
        title=Text(title, style="bold")
        if paired
        else Text.assemble((title, "bold"), ("; one trial, no interval", "dim")),
        title_justify="left",
        box=None,
        header_style="dim",
        pad_edge=False,
    )
    table.add_column("")
    for heading in ("A", "B", "Δ", "Δ %", *(["95 % interval"] if paired else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in rows:
        # A difference below the precision of a double is none.
        delta = row.delta if abs(row.delta) > 1e-9 * max(abs(row.a), abs(row.b)) else 0.0
        interval = "–" if row.interval is None else f"{change(row.interval.low)} … {change(row.interval.high)}"
        table.add_row(
            row.name,
            amount(row.a, row.unit),
            amount(row.b, row.unit),
            signed(delta, row.unit),
            change(row.change),
            *([interval] if paired else []),
            Text(row.verdict, style=_STYLES[row.verdict]),
        )
    return table


_STYLES: Final = {"less": "green", "more": "red", "no difference": "dim", "cannot tell": "dim"}
