"""Which machine this is: launches take another time on another one."""

from __future__ import annotations

import os
import platform
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

CPU_INFO: Final = Path("/proc/cpuinfo")
MACHINE_ID: Final = Path("/etc/machine-id")
DIGITS: Final = 12


@cache
def this_host() -> str:
    """Its CPU, how many there are, and a digest of its id and its name: those of an image may be on many machines."""
    own = sha256(f"{_text(MACHINE_ID).strip()} {platform.node()}".encode()).hexdigest()[:DIGITS]
    return f"{_cpu()} x {os.cpu_count() or 1} ({own})"


def _cpu() -> str:
    models = (line.partition(":")[2].strip() for line in _text(CPU_INFO).splitlines() if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
