"""Runs a program in the confinement that this kernel allows; the child process that ``sandbox`` starts.

It imports nothing of ReJoule, for it is run as a file by an isolated interpreter. It reads one JSON object from
standard input, and writes one to the descriptor named there when the program has ended.

Where namespaces may be made, the program has its own network (without any interface up), its own process ids (all of
them die with the first), a read-only view of the files, and a small memory file system as its working folder. A root
user gives up root, except for reading files: the interpreter may lie in a folder that only root can enter.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from typing import Any

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x8000000, 1 << 28, 1 << 29, 1 << 30
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 16384, 1 << 18
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 8, 38, 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522
# Above any uid in use, and one for each jail, so that its processes are counted apart.
FIRST_UID = 1_900_000_000

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Confines a child, waits for it as long as it may run, and reports how it ended."""
    order = json.load(sys.stdin)
    limits = order["limits"]
    apart = _leave()
    child_says, say = os.pipe()
    uid = FIRST_UID + os.getpid() if os.geteuid() == 0 else os.geteuid()
    child = os.fork()
    if child == 0:
        os.close(order["report_fd"])
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _become(order, uid, apart, say)
    os.close(say)
    timed_out = False

    def end(*_: object) -> None:
        nonlocal timed_out
        timed_out = True
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limits["wall_s"])
    exit_code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with os.fdopen(child_says) as pipe:
        told = json.loads(pipe.read() or "{}")
    with os.fdopen(order["report_fd"], "w") as report:
        json.dump({"network_isolated": apart, **told, "exit_code": exit_code, "timed_out": timed_out}, report)


def _leave() -> bool:
    """Moves into namespaces of its own; the process ids change for children only."""
    uid, gid = os.geteuid(), os.getegid()
    spaces = CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC
    if uid == 0:
        return bool(libc.unshare(spaces) == 0)
    if libc.unshare(spaces | CLONE_NEWUSER) != 0:
        return False
    for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - a jail imports as little as it can
            file.write(line)
    return True


def _become(order: dict[str, Any], uid: int, apart: bool, say: int) -> None:
    """Turns this process into the program."""
    limits, folder = order["limits"], order["folder"]
    files_isolated = apart and _mount(folder, uid, limits)
    os.chdir(folder)
    for name, text in order["files"].items():
        with open(name, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
    unprivileged = uid == os.geteuid() or _drop_root(uid)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(limits, apart)
    told = {"files_isolated": files_isolated, "processes_limited": unprivileged}
    os.write(say, json.dumps(told).encode())
    os.execve(order["command"][0], order["command"], order["environment"])


def _mount(folder: str, uid: int, limits: dict[str, Any]) -> bool:
    """Puts a small memory file system on the working folder, and makes every other mount read-only."""
    libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
    options = f"size={limits['folder_bytes']},nr_inodes={limits['folder_files']},mode=0700,uid={uid}"
    if libc.mount(b"jail", folder.encode(), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode()) != 0:
        return False
    return _set_mount("/", AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0) and _set_mount(folder, 0, 0, MOUNT_ATTR_RDONLY)


def _set_mount(path: str, flags: int, on: int, off: int) -> bool:
    attributes = struct.pack("QQQQ", on, off, 0, 0)
    done = libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, attributes, len(attributes))
    return bool(done == 0)


def _drop_root(uid: int) -> bool:
    """Becomes a user without rights, who can still read what root can."""
    try:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.chown(".", uid, -1)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:
        return False
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    libc.capset(header, struct.pack("IIIIII", *[1 << CAP_DAC_READ_SEARCH] * 3, 0, 0, 0))
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0)
    return True


def _limit(limits: dict[str, Any], apart: bool) -> None:
    for what, most in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CORE, 0),
        # A user's processes outside are counted only where there is no namespace; then it may start none.
        (resource.RLIMIT_NPROC, limits["processes"] if apart else 1),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    main()
