"""``rejoule export``."""

from __future__ import annotations

from pathlib import Path

import click

from rejoule.analysis.cli.reading import FOLDER, load_folder, print_json, working

FORMATS = ("perfetto", "parquet", "csv", "markdown", "svg", "png", "evidence")


@click.command()
@click.argument("runs", type=FOLDER, required=False)
@click.option("--to", type=click.Choice(FORMATS), help="What to write.")
@click.option("-o", "--output", type=FOLDER, help="A file; a folder for csv, parquet, svg and png.")
@click.option("--only", multiple=True, metavar="KNOB=VALUE", help="Keep these runs; may be repeated.")
@click.option("--check", "stated", type=FOLDER, metavar="FILE", help="Compare a file of evidence with RUNS.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def export(
    runs: Path | None,
    to: str | None,
    output: Path | None,
    only: tuple[str, ...],
    stated: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write RUNS in the format of another tool, or check a file of evidence.

    \b
    rejoule export RUNS --to perfetto -o trace.json.gz     for ui.perfetto.dev
    rejoule export RUNS --to csv -o tables                 runs, calls, nodes and steps; so does parquet
    rejoule export RUNS --to markdown -o comment.md        for a pull request
    rejoule export RUNS --to svg -o pictures               so does png
    rejoule export RUNS --to evidence -o evidence.json     what another party needs to check it
    rejoule export --check evidence.json RUNS
    """
    if stated is not None:
        _check(stated, runs, as_json)
        return
    if runs is None or to is None or output is None:
        raise click.UsageError("name RUNS, a format with --to, and where to write with -o; or a file with --check")
    from rejoule.analysis.cli.console import say
    from rejoule.analysis.export import files
    from rejoule.analysis.export.exported import Source
    from rejoule.analysis.export.formats import exported
    from rejoule.analysis.pairing import parse_filters, select
    from rejoule.traces.refused import load_refused

    folder = load_folder(runs)
    chosen = select(folder.runs, parse_filters(only))
    with working(f"writing {to}"):
        made = exported(Source(folder, chosen, load_refused(runs)), to)
    files.check(output, made, force)
    written = files.write(output, made)
    if as_json:
        sizes = {str(path): len(content) for path, content in zip(written, made.files.values(), strict=True)}
        print_json({"format": to, "files": sizes, "notes": made.notes})
        return
    for path, content in zip(written, made.files.values(), strict=True):
        click.echo(f"{path}  {len(content) / 1e3:,.0f} kB")
    for note in made.notes:
        say(f"note: {note}", "dim")


def _check(stated: Path, runs: Path | None, as_json: bool) -> None:
    from rejoule.analysis.cli.console import say
    from rejoule.analysis.export.evidence_file import differences, read
    from rejoule.traces.errors import RejouleError

    found = read(stated)
    apart = [] if runs is None else differences(found, runs)
    measured = sum(run.measured for run in found.runs)
    if as_json:
        body = {"file": str(stated), "runs": len(found.runs), "measured_runs": measured, "files": len(found.files)}
        body["modelled"] = found.modelled
        print_json({**body, "compared": runs is not None, "differences": apart})
    else:
        modelled = len(found.runs) - measured
        click.echo(f"{stated}: is what was written; {measured} measured runs, {modelled} modelled or without energy")
        rejected = [f"{run.id}: {'; '.join(run.rejected)}" for run in found.runs if run.rejected]
        for line in (*(f"do not use the joules of {line}" for line in rejected), *found.limits, *found.modelled):
            say(f"note: {line}", "dim")
        if runs is None:
            say("its run folder was not compared: name RUNS to do so", "yellow")
        elif not apart:
            click.echo(f"{runs}: all {len(found.files)} files, and what the evidence says of them, are as stated")
    if apart:
        shown = "; ".join(apart[:3]) + (f"; and {len(apart) - 3} more" if len(apart) > 3 else "")
        raise RejouleError(f"{runs} is not as {stated} says: {shown}", "get the run folder that the evidence is of")
