"""``rejoule report``."""

from __future__ import annotations

from pathlib import Path

import click

from rejoule.analysis.cli.reading import FOLDER, load_folder, print_json, working


@click.command()
@click.argument("runs", type=FOLDER)
@click.option("-o", "--output", type=FOLDER, default=Path("report.html"), show_default=True)
@click.option("--title", help="Heading of the page.")
@click.option("--slo", multiple=True, metavar="FIGURE=BOUND", help="What the advice has to keep; see rejoule advise.")
@click.option("--power", metavar="WATTS", help="Most mean power of the GPUs, as in 400W.")
@click.option("--force", is_flag=True, help="Write over a file that is not a report.")
@click.option("--json", "as_json", is_flag=True, help="Print path and size as one JSON object.")
def report(
    runs: Path, output: Path, title: str | None, slo: tuple[str, ...], power: str | None, force: bool, as_json: bool
) -> None:
    """Write RUNS as one self-contained page of interactive pictures."""
    from rejoule.analysis.advice import objectives
    from rejoule.analysis.report import file, render
    from rejoule.traces.refused import load_refused

    file.check(output, force)
    wanted = objectives([*slo, *([f"power={power}"] if power else [])])
    folder = load_folder(runs)
    with working("attributing joules and drawing"):
        page = render(folder.runs, folder.traces, folder.experiment, title, load_refused(runs), wanted).encode()
    file.write(output, page)
    if as_json:
        print_json({"path": str(output), "bytes": len(page)})
    else:
        click.echo(f"{output}  {len(page) / 1e6:.1f} MB")
