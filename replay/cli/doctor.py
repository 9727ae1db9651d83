"""``rejoule doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import click
import orjson
from rich.table import Table
from rich.text import Text

from rejoule.replay.doctor.finding import Finding
from rejoule.replay.doctor.gpus import gpu_findings
from rejoule.replay.doctor.jail import jail_finding
from rejoule.replay.doctor.machine import machine_findings
from rejoule.traces.terminal import console

MARKS: Final = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as a JSON object.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Say what this machine can measure and control, and how to fix what it cannot. Changes nothing."""
    findings = [*gpu_findings(), *machine_findings(), jail_finding(context.obj.find_jail())]
    if as_json:
        click.echo(orjson.dumps({"findings": findings}).decode())
    else:
        console().print(table(findings))


def table(findings: Sequence[Finding]) -> Table:
    """A mark, the topic and the finding, with its remedy below."""
    drawn = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        drawn.add_column(overflow="fold")
    for topic, finding in zip(_headings(findings), findings, strict=True):
        mark, style = MARKS[finding.ok]
        drawn.add_row(Text(mark, style), Text(topic, "bold"), Text(finding.found))
        if finding.remedy is not None:
            drawn.add_row("", "", Text(f"→ {finding.remedy}", "yellow"))
    return drawn


def _headings(findings: Sequence[Finding]) -> Iterable[str]:
    """Each topic once, where it begins."""
    before = None
    for finding in findings:
        yield "" if finding.topic == before else finding.topic
        before = finding.topic
