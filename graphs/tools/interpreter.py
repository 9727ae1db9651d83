"""Python for programs of others: the interpreter beneath the virtual environment, and the files that it needs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

LIBRARIES: Final = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib",
                    "/etc/ld.so.cache", "/usr/share/zoneinfo")  # fmt: skip
"""What programs of any Linux load, some of them links; those that are not there do not matter."""
STORES: Final = ("/nix/store", "/gnu/store")
"""Where all of a system lies that has no ``/usr/lib``."""
SUPERVISE: Final = "import sys; sys.path.append(sys.argv[1]); from jail.main import main; main()"


def executable() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def needed() -> list[str]:
    """The files and folders that it reads: its own, the system's libraries, time zones."""
    python = executable()
    own = [f"{prefix}/{name}" for prefix in {sys.base_prefix, sys.base_exec_prefix} for name in ("lib", "lib64")]
    stores = [store for store in STORES if python.startswith(f"{store}/")]
    named = [python, *own, *LIBRARIES, *stores]
    # A link is shown as one, and what it leads to beside it; folders before what is in them.
    return sorted({*named, *map(os.path.realpath, named)})


def program(arguments: list[str]) -> list[str]:
    """The command of a program, which has the standard library alone, and nothing of the user's environment."""
    return [executable(), "-I", "-S", "-B", "-X", "utf8", *arguments]


def supervisor() -> list[str]:
    """The command of what runs it."""
    return [executable(), "-I", "-S", "-c", SUPERVISE, str(Path(__file__).parent)]
