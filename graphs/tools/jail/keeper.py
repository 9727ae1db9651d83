"""The first process inside: puts up the walls, makes the program, and reaps until that has ended."""

import marshal
import os

from . import filter, limits, namespaces, root
from .kernel import PR_SET_PDEATHSIG, SIGKILL, Part, RefusedError, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def keep(order: "Mapping[str, Any]", uid: int | None, alive: int, output: int, say: int) -> None:
    """Runs the program of ``order``, as user ``uid`` of a jail, or unjailed; never returns.

    Writes a mapping to ``say``, by marshal: the exit code of the program, or a refusal. ``alive`` is a pipe from
    the supervisor, who writes a byte once this process cannot outlive it unseen.
    """
    try:
        prctl(PR_SET_PDEATHSIG, SIGKILL)
        if os.read(alive, 1):
            _run(order, uid, output, say)
    except RefusedError as refused:
        _tell(say, refused=[refused.part, refused.reason])
    finally:
        os._exit(0)


def _run(order: "Mapping[str, Any]", uid: int | None, output: int, say: int) -> None:
    os.setsid()
    if uid is not None:
        with Part("namespaces"):
            namespaces.isolate()
        with Part("files"):
            root.change(order["readable"], order["folder"], uid, order["limits"])
    program = os.fork()
    if program == 0:
        _become(order, uid, output)
    os.close(output)
    while (ended := os.wait())[0] != program:
        pass
    _tell(say, exit_code=os.waitstatus_to_exitcode(ended[1]))


def _become(order: "Mapping[str, Any]", uid: int | None, output: int) -> None:
    """Turns this process into the program, whose input is empty."""
    with Part("program"):
        if uid is not None:
            limits.give_up(uid)
    with Part("folder"):
        os.chdir(order["folder"])
        for name, text in order["files"].items():
            with open(name, "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write(text)
    with Part("program"):
        nothing, closed = os.pipe()
        os.close(closed)
        for here, there in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(here, there)
        limits.limit(order["limits"], counted=uid is not None)
    with Part("system calls"):
        if uid is not None:
            filter.close()
    with Part("program"):
        os.execve(order["command"][0], order["command"], order["environment"])


def _tell(say: int, **what: "Any") -> None:
    os.write(say, marshal.dumps(what))
