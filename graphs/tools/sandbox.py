"""Runs code that a model wrote, in a jail that the kernel keeps, or without one where that is asked for by name.

Jailed code has an interpreter, a small folder in memory and limits on time, memory, output and processes. It has no
other file, no network, no socket, terminal or process of the machine, and nothing of it is left when it has ended.
Unjailed code is held only to the limits.
"""

from __future__ import annotations

import asyncio
import marshal
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from rejoule.graphs.tools.interpreter import needed, program, supervisor
from rejoule.graphs.tools.refusals import NoJailError
from rejoule.traces.errors import RejouleError

FOLDER = "/jail"
"""The program's folder in its jail."""
TAIL_CHARS = 1500
GRACE_S = 5.0
"""For the jail itself to start and to report."""
ENDING_S = 3.0
"""For the jail to end what runs in it, when nobody waits for it any more."""


@dataclass(frozen=True)
class Limits:
    """What one program may use, all its processes together but for ``cpu_s``, ``file_bytes`` and ``open_files``.

    ``file_bytes`` is also the most that it may print.
    """

    wall_s: float = 5.0
    cpu_s: int = 5
    memory_bytes: int = 512 << 20
    file_bytes: int = 1 << 20
    folder_bytes: int = 8 << 20
    folder_files: int = 64
    open_files: int = 32
    processes: int = 16


@dataclass(frozen=True)
class SandboxResult:
    """How a program ended, and whether it was jailed."""

    passed: bool
    reason: str
    output: str
    jailed: bool


async def run_program(
    files: Mapping[str, str], arguments: Sequence[str], limits: Limits | None = None, *, jailed: bool = True
) -> SandboxResult:
    """Writes the files into the folder and runs ``python ARGUMENTS…`` there; passed means exit code 0, in time.

    Raises NoJailError where it cannot be ``jailed``; it then has not run.
    """
    if bad := [name for name in files if PurePath(name).name != name]:
        raise ValueError(f"not a plain file name: {bad[0]!r}")
    limits = limits or Limits()
    place = nullcontext(FOLDER) if jailed else tempfile.TemporaryDirectory(prefix="rejoule-")
    with place as folder:
        report = await _reported(order(files, arguments, limits, folder, jailed), limits.wall_s + GRACE_S)
    output = str(report.get("output", "")).replace(f"{folder}/", "")[-TAIL_CHARS:]
    return SandboxResult(passed(report), _reason(report), output, jailed)


def order(
    files: Mapping[str, str], arguments: Sequence[str], limits: Limits, folder: str, jailed: bool
) -> dict[str, Any]:
    """What the jail is told; `rejoule.graphs.tools.jail.main` reads it."""
    return {
        "jailed": jailed,
        "folder": folder,
        "readable": needed(),
        "files": dict(files),
        "command": program([*arguments]),
        "environment": {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder},
        "limits": asdict(limits),
    }


def passed(report: Mapping[str, Any]) -> bool:
    """Whether a program ended by itself, and well. Raises RejouleError where it never began."""
    if not report:
        raise RejouleError("what runs the code of models ended without a word", "free some memory, and repeat it")
    match report:
        case {"refused": ["folder", _]}:
            return False
        case {"refused": [str(part), str(reason)]}:
            raise NoJailError(part, reason)
    return report.get("exit_code") == 0 and "stopped" not in report


async def _reported(order: Mapping[str, Any], patience_s: float) -> dict[str, Any]:
    """The jail's report; empty if the jail itself failed."""
    jail = await asyncio.create_subprocess_exec(
        *supervisor(), env={}, start_new_session=True,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert jail.stdin is not None and jail.stdout is not None
    try:
        with suppress(ConnectionError):
            jail.stdin.write(marshal.dumps(dict(order)))
            await jail.stdin.drain()
        said = await asyncio.wait_for(jail.stdout.read(), patience_s)
    except TimeoutError:
        said = b""
    finally:
        # Also when this task is cancelled: the end of its input tells the jail to end what runs, which takes a moment.
        jail.stdin.close()
        try:
            await asyncio.wait_for(jail.wait(), ENDING_S)
        except TimeoutError:
            jail.kill()
            await jail.wait()
    return dict(marshal.loads(said)) if said else {}


def _reason(report: Mapping[str, Any]) -> str:
    match report:
        case {"refused": ["folder", reason]}:
            return f"the files do not fit: {reason}"
        case {"stopped": str(limit)}:
            return limit
        case {"exit_code": int(code)} if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        case {"exit_code": int(code)}:
            return f"exit code {code}"
    return "ended without an exit code"
