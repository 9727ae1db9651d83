"""Runs programs for tests that must not be who they are: a line of JSON in, a line out; or Python as somebody else.

As ``root`` and ``user`` a jail can be had; as ``forbidden``, whose kernel lets it make no namespaces, and in a
``container``, whose filter refuses the system call, it cannot.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rejoule.graphs.tools.jail import filter
from rejoule.graphs.tools.jail.kernel import PR_SET_NO_NEW_PRIVS, call, prctl
from rejoule.graphs.tools.jail.namespaces import CLONE_NEWUSER
from rejoule.graphs.tools.sandbox import Limits, run_program
from rejoule.traces.errors import RejouleError


def become(kind: str) -> None:
    """Turns this process into one of that kind; only what is executed afterwards has lost its privileges."""
    if kind == "container":
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        filter.close()
    if kind in ("root", "container") or (kind == "user" and os.geteuid() != 0):
        return
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", CLONE_NEWUSER)
    for name, line in (("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")):
        Path("/proc/self", name).write_text(line)
    if kind == "forbidden":
        Path("/proc/sys/user/max_user_namespaces").write_text("0")


async def answer(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        limits = Limits(**asked["limits"])
        return asdict(await run_program({"main.py": asked["code"]}, ["main.py"], limits, jailed=asked["jailed"]))
    except RejouleError as error:
        return {"error": str(error)}


def serve() -> None:
    for line in sys.stdin:
        print(json.dumps(asyncio.run(answer(json.loads(line)))), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        become(sys.argv[1])
        os.execv(sys.executable, [sys.executable, *(sys.argv[2:] or [__file__])])
    serve()
