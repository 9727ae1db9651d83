"""What a vLLM log says: how far the start is, and why it failed. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence

PHASES = (
    ("answering", re.compile(r"Application startup complete")),
    ("opening the port", re.compile(r"Starting vLLM (API )?server|Supported tasks")),
    ("capturing graphs", re.compile(r"captur\w+ (cuda ?)?graph|graph captur", re.IGNORECASE)),
    ("sizing the KV cache", re.compile(r"KV cache (size|memory)|num_gpu_blocks|memory profiling", re.IGNORECASE)),
    ("compiling", re.compile(r"torch\.compile|Dynamo bytecode|compiling a graph|warming up model", re.IGNORECASE)),
    ("loading weights", re.compile(r"Starting to load model|Loading (model |safetensors|weights)|Model loading took")),
    ("starting the engine", re.compile(r"Initializing a V1 LLM engine|world_size=")),
    ("reading the configuration", re.compile(r"Resolved architecture|non-default args|Using max model len")),
)
"""What a line says of the phase; the last line that says something counts."""

SPEAKER = re.compile(r"^\(\w+ pid=\d+\) ?")
LEVEL = re.compile(r"^(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
RAISED = re.compile(r"^((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit|NotFound\w*|Timeout\w*|Refused))(?:: (.*))?$")
USAGE = re.compile(r"^[\w.\- ]+: error: (.+)$")
PYDANTIC = re.compile(r"^\s+(?:Value error|Assertion failed), (.+?)(?: \[type=\w+, input_value=.*)?$")
PYDANTIC_OTHER = re.compile(r"^\s+(.+?) \[type=\w+, input_value=.*$")
POINTERS = re.compile(
    r"See root cause above|See stack trace|check the stack trace|[Ee]ngine core initialization failed"
    r"|EngineCore encountered an issue|Engine process failed|WorkerProc initialization failed"
)
DIED = re.compile(r"((?:[\w-]+ )*(?:died|exited) unexpectedly(?: \(exit code: -?\d+\))?)")
RELATED_LINES = 300
"""An error further before a pointer was another matter, such as one request's."""
NO_REASON = ("KeyboardInterrupt", "SystemExit", "CancelledError", "EngineDeadError", "BrokenPipeError", "EOFError")
PLAIN = ("ValueError", "RuntimeError", "Exception", "ValidationError", "AssertionError")
LONGEST = 300

PORT_TAKEN = re.compile(r"[Aa]ddress already in use|EADDRINUSE")


def phase_of(line: str) -> str | None:
    """The phase of the start that a line of the log announces."""
    return next((name for name, pattern in PHASES if pattern.search(line)), None)


def port_taken(lines: Iterable[str]) -> bool:
    """Whether a start failed for want of a port."""
    return any(PORT_TAKEN.search(line) for line in lines)


def reason_of(lines: Sequence[str], returncode: int | None) -> str:
    """Why a server ended, in one line and in vLLM's own words as far as it has any.

    A failure climbs through vLLM's processes, and each adds an error that only points at the one before. The reason is
    the last error before the first pointer: later ones are processes that stumble over the failed one.
    """
    said = [_bare(line) for line in lines]
    for line in reversed(said):
        if match := USAGE.match(line):
            return _short(match[1])
    reason, at = "", 0
    for number, line in enumerate(said):
        died, raised = DIED.search(line), RAISED.match(line)
        if died or POINTERS.search(line):
            if reason and number - at <= RELATED_LINES:
                break
            reason = died[1].strip() if died else ""
            if reason:
                break
        elif raised and (name := raised[1].rpartition(".")[2]) not in NO_REASON:
            message = (raised[2] or "").strip()
            if "validation error" in message:
                message = _validation(said[number + 1 :]) or message
            reason = message if name in PLAIN and message else f"{name}: {message}".removesuffix(": ")
            at = number
    return _short(reason) if reason and not _killed(returncode) else _ending(returncode, said)


def _bare(line: str) -> str:
    return LEVEL.sub("", SPEAKER.sub("", COLOUR.sub("", line.rstrip("\r\n"))))


def _validation(lines: Sequence[str]) -> str | None:
    for line in lines[:4]:
        if match := PYDANTIC.match(line) or PYDANTIC_OTHER.match(line):
            return match[1]
    return None


def _killed(returncode: int | None) -> bool:
    return returncode is not None and returncode < 0


def _ending(returncode: int | None, said: Sequence[str]) -> str:
    if returncode is not None and returncode < 0:
        name = signal.Signals(-returncode).name if -returncode in set(signal.Signals) else f"signal {-returncode}"
        return f"killed by {name}" + (", as the kernel does when memory runs out" if name == "SIGKILL" else "")
    last = next((line.strip() for line in reversed(said) if line.strip()), "")
    status = "it ended" if returncode is None else f"it ended with status {returncode}"
    return f"{status}, and last said: {_short(last)}" if last else f"{status} without a word"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1].rstrip() + "…"
