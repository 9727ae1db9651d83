"""``rejoule restore``."""

from __future__ import annotations

import click
import orjson

from rejoule.replay.knobs.journal import knobs_folder
from rejoule.replay.knobs.restore import restore_journaled
from rejoule.traces import RejouleError
from rejoule.traces.terminal import say


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was done as a JSON object.")
def restore(as_json: bool) -> None:
    """Put power limits and clocks back after a crash, as they were found before the experiment."""
    done = restore_journaled(knobs_folder())
    if as_json:
        click.echo(orjson.dumps({"gpus": done}).decode())
    else:
        for gpu in done:
            if gpu.left is None:
                limit = "" if gpu.limit_w is None else f", power limit {gpu.limit_w:g} W"
                say(f"{gpu.uuid}: put back{limit}{', clock unlocked' if gpu.clock_unlocked else ''}")
        if not done:
            click.echo("Nothing to restore: no experiment left a GPU changed.")
    left = [gpu for gpu in done if gpu.left is not None]
    if left:
        raise RejouleError(f"{left[0].uuid} was left as it is: {left[0].left}", "its journal is kept")
