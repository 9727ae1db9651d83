"""What the commands that read runs share: opening a folder, and answering as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rejoule.traces.runs import RunFolder

FOLDER: Final = click.Path(path_type=Path)


def load_folder(path: Path) -> RunFolder:
    from rejoule.traces.runs import load_runs

    with working(f"reading {path}"):
        return load_runs(path)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Says on a terminal what takes its time, for as long as it does; a pipe is told nothing."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.text import Text

    from rejoule.traces.terminal import console, on_one_line

    with console(stderr=True).status(Text(f"{on_one_line(what)} …")):
        yield


def print_json(body: Any) -> None:
    import orjson

    click.echo(orjson.dumps(body).decode())
