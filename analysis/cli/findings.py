"""``rejoule findings``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from rejoule.analysis.cli.reading import FOLDER, load_folder, print_json, working
from rejoule.traces.words import counted

if TYPE_CHECKING:
    from rejoule.analysis.findings.effect import Verdict
    from rejoule.analysis.findings.reading import Answer

SHOWN: Final = 8
"""Comparisons of a finding that are listed, unless all are asked for."""


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FOLDER)
@click.option("--finding", "own", multiple=True, type=FOLDER, metavar="FILE.toml",
              help="A finding of your own, beside those that ReJoule has; may be repeated.")  # fmt: skip
@click.option("--only", multiple=True, metavar="ID", help="Ask of this finding alone; may be repeated.")
@click.option("--all", "whole", is_flag=True, help="List every comparison.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every comparison.")
def findings(runs: tuple[Path, ...], own: tuple[Path, ...], only: tuple[str, ...], whole: bool, as_json: bool) -> None:
    """Say of each known finding whether it holds on RUNS, does not, or cannot be told, and why.

    \b
    rejoule findings RUNS
    rejoule findings RUNS OTHER_RUNS --finding mine.toml --only mine
    """
    from rejoule.analysis.findings.answer import answers, notes
    from rejoule.analysis.findings.answer import as_json as json_of
    from rejoule.analysis.findings.finding import read_all, shipped_paths
    from rejoule.traces.errors import RejouleError

    known = read_all([*shipped_paths(), *own])
    if unknown := [name for name in only if name not in {one.id for one in known}]:
        raise RejouleError(f"no finding is called {unknown[0]!r}", f"choose among {', '.join(o.id for o in known)}")
    folders = [load_folder(path) for path in runs]
    with working("asking"):
        found = answers(folders, [one for one in known if not only or one.id in only])
    said = notes(folders, found)
    if as_json:
        print_json(json_of(found, said))
        return
    _print(found, said, SHOWN if not whole else None)


def _print(found: Sequence[Answer], notes: Sequence[str], most: int | None) -> None:
    """What can be told first, with its numbers; then why the rest cannot, and what would tell."""
    from rejoule.analysis.cli.console import say
    from rejoule.analysis.findings.answer import of_nodes

    told = [answer for answer in found if answer.verdict != "cannot tell"]
    open_ = [answer for answer in found if answer not in told and any(r.evidence for r in answer.readings)]
    for answer in (*told, *open_):
        _print_answer(answer, most)
    rest = [answer for answer in found if answer not in told and answer not in open_]
    if rest:
        say("\nCannot be told from these runs:", "bold")
    for reason in dict.fromkeys(answer.reason for answer in rest):
        say(f"  {reason}:")
        for answer in rest:
            if answer.reason == reason:
                say(f"    {answer.finding.claim} ({answer.finding.id})", "dim")
    verdicts = [answer.verdict for answer in found]
    counts = ", ".join(f"{verdicts.count(verdict)} {words}" for verdict, words in _COUNTED.items())
    say(f"\nof {counted(len(found), 'finding')}: {counts}")
    for note in (*notes, *of_nodes(found)):
        say(f"note: {note}", "yellow")


def _print_answer(answer: Answer, most: int | None) -> None:
    from rejoule.analysis.cli.console import say
    from rejoule.analysis.findings.answer import shown

    say("")
    say(f"{answer.finding.claim}: {shown(answer)}", f"bold {_STYLES[answer.verdict]}")
    basis = f"; {answer.basis}" if answer.basis else ""
    say(f"  {answer.finding.id} ({answer.finding.source}); {answer.reason}{basis}", "dim")
    listed = [reading for reading in answer.readings if reading.evidence]
    for reading in listed[:most]:
        place = ", ".join(filter(None, (reading.trace, reading.where)))
        say(f"  {place}: {reading.verdict}: {reading.evidence}")
    for each in answer.carried:
        say(f"  by node, {each.trace}, {each.quantity} a workflow: {each.sentence()}", "dim")
    if most is not None and len(listed) > most:
        say(f"  and {len(listed) - most} more: --all", "dim")


_STYLES: Final[dict[Verdict, str]] = {"holds": "green", "does not hold": "red", "cannot tell": "dim"}
_COUNTED: Final[dict[Verdict, str]] = {
    "holds": "held",
    "does not hold": "not held",
    "cannot tell": "not to be told",
}
