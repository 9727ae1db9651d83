"""What the commands that read runs share: opening a folder, and answering as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rejoule.traces.runs import RunFolder

FOLDER: Final = click.Path(path_type=Path)


def load_folder(path: Path) -> RunFolder:
    from rejoule.traces.runs import load_runs

    return load_runs(path)


def print_json(body: Any) -> None:
    import orjson

    click.echo(orjson.dumps(body).decode())
