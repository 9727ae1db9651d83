"""Calls to the kernel that Python has no names for, and what cannot be had of it."""

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

libc = ctypes.CDLL(None, use_errno=True)

SIGKILL = 9
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 22, 36, 38
PARTS = ("namespaces", "files", "program", "system calls")
"""The walls, in the order in which they are put up; ``program`` is its user and limits."""


class RefusedError(Exception):
    """A part of the jail cannot be had here."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(part, reason)
        self.part, self.reason = part, reason


class Part:
    """A context: what fails within is the refusal of that part."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: "TracebackType | None"
    ) -> None:
        if isinstance(error, OSError | AttributeError | ValueError):
            raise RefusedError(self.name, getattr(error, "strerror", None) or str(error)) from error


def call(name: str, *arguments: int | bytes | None) -> None:
    """Calls a function of the C library that answers -1 when it fails; raises OSError."""
    if getattr(libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def prctl(option: int, value: int) -> None:
    """Sets an attribute of this process; raises OSError."""
    call("prctl", option, value, 0, 0, 0)
