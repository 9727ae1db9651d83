"""What a program may be and use: no privileges, and limits of every process."""

import os
import resource
import struct

from .kernel import PR_SET_NO_NEW_PRIVS, call, prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CAPABILITY_VERSION_3 = 0x20080522
GUARDS = 2
"""The supervisor and the keeper, who count among a user's processes."""


def give_up(uid: int) -> None:
    """Becomes that user, without a capability. Raises OSError."""
    if uid != os.geteuid():
        os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    call("capset", struct.pack("Ii", CAPABILITY_VERSION_3, 0), bytes(24))


def limit(limits: "Mapping[str, int]", counted: bool) -> None:
    """Sets the limits for good; those of processes where ``counted``, as a user's others outside count too."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    for what, most in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_NPROC, limits["processes"] + GUARDS if counted else resource.RLIM_INFINITY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_RTPRIO, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = hard if most == resource.RLIM_INFINITY else most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
