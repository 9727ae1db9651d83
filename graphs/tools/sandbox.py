"""Runs code that a model wrote, in a subprocess confined by the kernel as far as the kernel allows it.

The code gets a working folder of its own, an empty environment, and limits on time, memory, files and processes; no
network, and no writing or signalling outside, where namespaces may be made, which the result states. It can read the
files that its user can read. This is for the accidents of generated code; it does not stop a determined attacker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import IO, Any

JAIL = Path(__file__).with_name("jail.py")
TAIL_CHARS = 1500
# For the jail itself to start and to report.
GRACE_S = 5.0


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

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
    """How a program ended, and which walls stood around it."""

    passed: bool
    reason: str
    output: str
    network_isolated: bool
    files_isolated: bool
    processes_limited: bool


async def run_program(
    files: Mapping[str, str], arguments: Sequence[str], limits: Limits | None = None
) -> SandboxResult:
    """Writes the files into the folder and runs ``python ARGUMENTS…`` there; passed means exit code 0, in time."""
    limits = limits or Limits()
    if bad := [name for name in files if PurePath(name).name != name]:
        raise ValueError(f"not a plain file name: {bad[0]!r}")
    with tempfile.TemporaryDirectory(prefix="rejoule-") as outside:
        folder = Path(outside, "folder")
        folder.mkdir()
        order = {
            "folder": str(folder),
            "files": dict(files),
            # -I: neither the user's site nor the environment reaches the program.
            "command": [sys.executable, "-I", "-B", "-X", "utf8", *arguments],
            "environment": {"PATH": os.defpath, "HOME": str(folder)},
            "limits": asdict(limits),
        }
        with Path(outside, "output").open("w+b") as output:
            report = await _jailed(order, limits.wall_s + GRACE_S, output)
            output.seek(0)
            said = output.read().decode(errors="replace").replace(f"{folder}/", "")
    return SandboxResult(
        passed=report.get("exit_code") == 0,
        reason=_reason(report),
        output=said[-TAIL_CHARS:],
        network_isolated=report.get("network_isolated", False),
        files_isolated=report.get("files_isolated", False),
        processes_limited=report.get("processes_limited", False),
    )


async def _jailed(order: dict[str, Any], patience_s: float, output: IO[bytes]) -> dict[str, Any]:
    """The jail's report; empty if the jail itself failed."""
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as report:  # noqa: PTH123 - a descriptor, not a path
        try:
            jail = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(JAIL),
                stdin=asyncio.subprocess.PIPE, stdout=output, stderr=output,
                env={}, pass_fds=[write_end], start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(write_end)
        try:
            message = json.dumps({**order, "report_fd": write_end}).encode()
            await asyncio.wait_for(jail.communicate(message), patience_s)
        except TimeoutError:
            return {"timed_out": True}
        finally:
            # Whatever is left of the group, also when this task is cancelled.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(jail.pid, signal.SIGKILL)
            await jail.wait()
        return dict(json.loads(report.read() or b"{}"))


def _reason(report: dict[str, Any]) -> str:
    match report:
        case {"timed_out": True}:
            return "time limit"
        case {"exit_code": int(code)} if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        case {"exit_code": int(code)}:
            return f"exit code {code}"
    return "could not start"
