"""A world of its own: users, processes, mounts, network, names."""

import errno
import os

from .kernel import call

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 1 << 28, 1 << 29, 1 << 30
USER = 1000
"""Who the program is to itself, in a user namespace."""
FIRST_UID = 1_900_000_000
"""Root's programs are users above any in use, one each, so that their processes are counted apart."""
ALL_USERS = ["0", "0", "4294967295"]


def enter() -> int:
    """Makes this process's children begin a process namespace; gives the user id for the program. Raises OSError.

    Root needs no user namespace for that, nor may every machine let it have one.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and _text("/proc/self/uid_map").split() == ALL_USERS:
        try:
            call("unshare", CLONE_NEWPID)
            return FIRST_UID + os.getpid()
        except PermissionError:
            pass
    try:
        call("unshare", CLONE_NEWPID | CLONE_NEWUSER)
    except OSError as error:
        if error.errno == errno.ENOSPC:  # whose usual words are of disks
            raise OSError(errno.ENOSPC, "this kernel allows no more of them") from error
        raise
    for name, line in (("setgroups", "deny"), ("uid_map", f"{USER} {uid} 1"), ("gid_map", f"{USER} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - a jail imports as little as it can
            file.write(line)
    return USER


def isolate() -> None:
    """Leaves the network, mounts, names and message queues of the machine. Raises OSError."""
    call("unshare", CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
    call("sethostname", b"jail", 4)


def _text(path: str) -> str:
    with open(path) as file:  # noqa: PTH123
        return file.read()
