"""The evidence as one sealed JSON file, and its check by another party."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from rejoule.analysis.export.exported import Exported, Source
from rejoule.analysis.proof import FORMAT_VERSION, Evidence, as_of, of_folder
from rejoule.traces.decoding import DamagedError, decoded
from rejoule.traces.errors import RejouleError
from rejoule.traces.refused import load_refused
from rejoule.traces.runs import load_runs
from rejoule.traces.seal import sealed, unsealed

_object: Final = msgspec.json.Decoder(dict[str, Any]).decode
_REMEDY: Final = "write it again: rejoule export RUNS --to evidence -o FILE"


def export(source: Source) -> Exported:
    """Of the whole folder: evidence of a choice of runs would be a choice of evidence. Raises RejouleError."""
    if len(source.runs) < len(source.folder.runs):
        raise RejouleError("evidence is of all runs of a folder", "leave out --only")
    try:
        found = of_folder(source.folder, source.refused)
    except OSError as error:
        raise RejouleError(f"cannot read {error.filename}: {error.strerror}", "repeat the export") from error
    return Exported({"evidence.json": sealed(found)}, source.notes, single=True)


def read(path: Path) -> Evidence:
    """A file of evidence that is what was written. Raises RejouleError."""
    try:
        body = unsealed(decoded(path.read_bytes(), _object), required=True)
        version = body.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise RejouleError(f"{path} has format version {version}", "please update: pip install -U rejoule")
        return msgspec.convert(body, Evidence)
    except (OSError, DamagedError, msgspec.ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise RejouleError(f"{path} is no evidence: {why}", _REMEDY) from error


def differences(stated: Evidence, runs: Path) -> list[str]:
    """What a run folder has otherwise than the evidence says; empty where it is as stated. Raises RejouleError."""
    # What was damaged since does not even load; its files are compared first, so that they are named.
    found = list(_files(stated, runs))
    if found:
        return found
    folder = load_runs(runs)
    now = as_of(stated.format_version, of_folder(folder, load_refused(runs)))
    if _plain(replace(now, files={})) == _plain(replace(stated, files={})):
        return []
    return list(_fields(stated, now)) or ["the evidence says something else than its run folder"]


def _files(stated: Evidence, runs: Path) -> Iterator[str]:
    from rejoule.analysis.proof import digests

    try:
        now = digests(runs)
    except OSError as error:
        raise RejouleError(f"cannot read {error.filename}: {error.strerror}", "name the run folder") from error
    if not now:
        raise RejouleError(f"{runs} is not a run folder", "name the folder that the evidence is of")
    for name in sorted(stated.files.keys() | now.keys()):
        if name not in now:
            yield f"{name} is missing"
        elif name not in stated.files:
            yield f"{name} is not in the evidence"
        elif now[name] != stated.files[name]:
            yield f"{name} is another file"


def _fields(stated: Evidence, now: Evidence) -> Iterator[str]:
    """Where equal files are said to hold something else."""
    runs = {run.id: run for run in now.runs}
    for run in stated.runs:
        if run.id not in runs:
            yield f"{run.id} is not in the folder"
        elif _plain(run) != _plain(runs[run.id]):
            a, b = _plain(run), _plain(runs[run.id])
            names = ", ".join(key for key in b if a.get(key) != b[key])
            yield f"{run.id}: {names} not as in its files"
    for name in ("traces", "trials", "seed", "left_out", "limits", "modelled"):
        if _plain(getattr(stated, name)) != _plain(getattr(now, name)):
            yield f"{name} not as in the folder"


def _plain(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))
